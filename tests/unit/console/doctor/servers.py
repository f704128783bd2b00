"""A small server on loopback that answers every request the same, and what the doctor looks at."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from qcompute.chain.contract import Signer
from qcompute.chain.keys import create_wallet
from qcompute.miner.settings import Settings


@asynccontextmanager
async def answering(document: Any, headers: Mapping[str, str] | None = None) -> AsyncGenerator[int]:
    """The port of a server that answers ``document`` as JSON."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(document, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def settings(folder: Path, **sections: Any) -> Settings:
    """Settings of a miner whose things lie in ``folder``; nothing of it is made."""
    nobody = {"url": "http://127.0.0.1:9", "tensorauth_url": "http://127.0.0.1:9"}
    given: dict[str, Any] = {
        "provider": "mock",
        "jobserver": nobody,
        "wallet": {"name": "miner", "hotkey": "default", "path": folder / "wallets"},
        "neuron": {"full_path": folder / "data"},
        "ledger": {"path": folder / "data" / "ledger.sqlite3"},
        "operator": {"port": 9},
        "chain": {"metagraph_file": folder / "metagraph.json"},
    }
    return Settings.model_validate(given | sections)


def wallet(folder: Path) -> Signer:
    """The wallet those settings name."""
    return create_wallet("miner", "default", folder / "wallets")
