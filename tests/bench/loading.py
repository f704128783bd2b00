"""What most benchmarks need: a scene open wide for one validator's load, and the load generator as a process."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from qcompute.chain.keys import signer_from_uri
from qcompute.local.service import Fault, FaultKind
from qcompute.protocol import FIRST_CURSOR
from tests.scene import VALIDATOR_URI, Scene, running_scene

CONNECTIONS: Final = 64
OPEN_WIDE: Final = {
    "QCOMPUTE_MINER__MAX_INFLIGHT": "1000000",
    "QCOMPUTE_MINER__VALIDATOR_SHARE": "1.0",
    "QCOMPUTE_LOGGING__LEVEL": "warning",
}


class scene:  # noqa: N801 - used like a function
    """A scene in a temporary folder, open wide for one validator's load."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._scene = running_scene(Path(self._folder.name), environment=OPEN_WIDE | dict(environment or {}))

    async def __aenter__(self) -> Scene:
        return await self._scene.__aenter__()

    async def __aexit__(self, *error: Any) -> None:  # noqa: PYI036 - passed on
        await self._scene.__aexit__(*error)
        self._folder.cleanup()


def hanging_host(running: Scene, seconds: float = 3600.0) -> str:
    """A URL whose host takes its time."""
    running.platform.circuits.faults.append(Fault("GET", FaultKind.DELAY, seconds=seconds, times=None))
    return running.platform.circuits.add("bench", "OPENQASM 2.0;")


async def load(
    ports: int | Sequence[int],
    hotkey: str,
    *,
    connections: int = CONNECTIONS,
    requests: int,
    urls: Sequence[str] = (),
    last_circuit: str = FIRST_CURSOR,
) -> dict[str, Any]:
    """What the load generator saw; fails when an answer was wrong. ``urls``: each request brings the next one's job."""
    wish = {
        "ports": [ports] if isinstance(ports, int) else list(ports),
        "miner": hotkey,
        "validator": VALIDATOR_URI,
        "connections": connections,
        "requests": requests,
        "urls": list(urls),
        "last_circuit": last_circuit,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.load", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate(json.dumps(wish).encode())
    seen = json.loads(output)
    if seen["ok"] != seen["requests"]:
        raise RuntimeError(f"{seen['requests'] - seen['ok']} wrong answers, such as {seen['wrong']}")
    return seen


async def bare_endpoint(*, requests: int = 300) -> dict[str, Any]:
    """The same load on an endpoint that only checks the signature."""
    hotkey = signer_from_uri("//bench-bare").hotkey
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.bare", hotkey, stdout=asyncio.subprocess.PIPE
    )
    try:
        if process.stdout is None:
            raise RuntimeError("the bare endpoint has no output")
        port = int(await process.stdout.readline())
        await asyncio.sleep(0.5)
        return await load(port, hotkey, requests=requests)
    finally:
        process.terminate()
        await process.wait()
