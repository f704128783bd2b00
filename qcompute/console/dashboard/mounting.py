"""Where the dashboard is put together: the daemon's facts, the port's sessions, and the routes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.routing import BaseRoute

from qcompute.console.dashboard.daemon import DaemonFacts
from qcompute.console.dashboard.pages import routes
from qcompute.console.sessions import Sessions
from qcompute.miner.parts import Parts
from qcompute.miner.settings import Settings


class Dashboard:
    """One daemon's dashboard, a `qcompute.miner.surroundings.Surrounding`.

    With ``operator.token`` set nothing is shown before the sign-in; without it the port is on loopback, and only
    deciding needs a token (`qcompute.console.operator_token`).
    """

    name = "dashboard"

    def __init__(self, settings: Settings, parts: Parts, sessions: Sessions) -> None:
        self._facts = DaemonFacts(settings, parts)
        self._stopped = asyncio.Event()
        self.routes: list[BaseRoute] = routes(self._facts, sessions)

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
