"""Where the dashboard is put together: the daemon's facts, the sessions with the operator's token, and the routes."""

from __future__ import annotations

from starlette.routing import BaseRoute

from qcompute.console.dashboard.daemon import DaemonFacts
from qcompute.console.dashboard.pages import routes
from qcompute.console.dashboard.sessions import Sessions, operator_token
from qcompute.miner.parts import Parts
from qcompute.miner.settings import Settings

TOKEN_SUFFIX = ".operator-token"  # noqa: S105 - of the file's name


class Dashboard:
    """One daemon's dashboard. ``login_to_look`` is for a port that others than this machine's users reach.

    Raises:
        ConfigError: the operator's token cannot be kept beside the ledger.
    """

    def __init__(self, settings: Settings, parts: Parts, *, login_to_look: bool) -> None:
        ledger = settings.ledger.file
        self._facts = DaemonFacts(settings, parts)
        sessions = Sessions(operator_token(ledger.with_name(f"{ledger.name}{TOKEN_SUFFIX}")))
        self.routes: list[BaseRoute] = routes(self._facts, sessions, login_to_look=login_to_look)

    async def close(self) -> None:
        """End what the dashboard started. Safe to call twice."""
        await self._facts.close()
