"""Where the dashboard is put together: the daemon's facts, the sessions with the operator's token, and the routes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from starlette.routing import BaseRoute

from qcompute.connections.credentials import named
from qcompute.console.dashboard.daemon import DaemonFacts
from qcompute.console.dashboard.pages import routes
from qcompute.console.dashboard.sessions import Sessions, operator_token
from qcompute.miner.parts import Parts
from qcompute.miner.settings import Settings

TOKEN_SUFFIX: Final = ".operator-token"  # noqa: S105 - of the file's name


class Dashboard:
    """One daemon's dashboard, a `qcompute.miner.surroundings.Surrounding`.

    With ``operator.token`` set nothing is shown before the sign-in; without it the port is on loopback, and only
    deciding needs a token, that of `token_file`.

    Raises:
        ConfigError: the token cannot be read, or kept beside the ledger.
    """

    name = "dashboard"

    def __init__(self, settings: Settings, parts: Parts) -> None:
        name = settings.operator.token
        token = operator_token(token_file(settings.ledger.file)) if name is None else named(name).reveal()
        self._facts = DaemonFacts(settings, parts)
        self._stopped = asyncio.Event()
        self.routes: list[BaseRoute] = routes(self._facts, Sessions(token), login_to_look=name is not None)

    @property
    def facts(self) -> Mapping[str, str | int]:
        """Nothing for the ready file: the port is in it."""
        return {}

    async def start(self) -> None:
        """Nothing runs before it is asked for."""

    async def run(self) -> None:
        """Wait until `stop`."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """End the child that draws. Safe to call twice."""
        self._stopped.set()
        await self._facts.close()


def token_file(ledger: Path) -> Path:
    """Where the token lies that decides, when ``operator.token`` names none."""
    return ledger.with_name(f"{ledger.name}{TOKEN_SUFFIX}")
