"""The operator port: one HTTP server of the daemon for its operator, apart from the axon.

It serves what `qcompute.miner.operator` describes, ``/metrics``, and whatever pages are handed to it. Every request
passes `qcompute.console.guard` first. Where it listens stands in a file beside the ledger, for commands and tests.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import ASGIApp

from qcompute.axon.protocol_guard import guarded
from qcompute.axon.server import HttpServer
from qcompute.console.guard import Guard, is_loopback
from qcompute.console.sessions import COOKIE, HTTP_TOO_MANY, Sessions, keep
from qcompute.errors import ConfigError, NotAllowed
from qcompute.miner.watching import OperatorSettings

SESSION_PATH: Final = "/session"
MAX_CONNECTIONS: Final = 128
"""A dashboard in a few browsers, a scraper, a health check."""

_ANY: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared, not bound


class OperatorPort:
    """The server. ``base`` answers what none of ``routes`` does; ``open_paths`` need no token (see `Guard`)."""

    name = "operator port"

    def __init__(
        self,
        settings: OperatorSettings,
        base: ASGIApp,
        sessions: Sessions,
        *,
        port_file: Path,
        axon: tuple[str, int],
        routes: Sequence[BaseRoute] = (),
        open_paths: Collection[str] = (),
    ) -> None:
        check_address(settings, axon)
        self._settings = settings
        self._file = port_file
        app = Router([*routes, _session_route(sessions), Mount("", app=base)])
        hosts = None if sessions.to_look and not is_loopback(settings.host) else settings.allowed_hosts
        self._server = HttpServer(
            "the operator port",
            Guard(app, sessions, hosts=hosts, open_paths={SESSION_PATH, *open_paths}),
            host=settings.host,
            port=settings.port,
            setting="--operator.host and --operator.port",
            protocol=guarded(max_connections=MAX_CONNECTIONS),
        )

    @property
    def port(self) -> int:
        """The port that is really bound."""
        return self._server.port

    @property
    def facts(self) -> Mapping[str, str | int]:
        """For the ready file."""
        return {"operator_port": self.port}

    async def start(self) -> None:
        """Serve, and write down where.

        Raises:
            ConfigError: the address cannot be bound, or the file not be written; names the setting.
        """
        await self._server.start()
        document = {"url": url_of(self._settings.host, self.port), "pid": os.getpid()}
        draft = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            draft.write_text(json.dumps(document), encoding="utf-8")
            draft.chmod(0o600)
            draft.replace(self._file)
        except OSError as error:
            raise ConfigError(f"{self._file} cannot be written ({error.strerror}); see ledger.path") from error

    async def run(self) -> None:
        """Wait until the server ends; it ends by itself only when something is wrong."""
        await self._server.run()

    async def stop(self) -> None:
        """Take no more connections, let answers under way out, close."""
        with contextlib.suppress(FileNotFoundError):
            self._file.unlink()
        await self._server.stop()


def check_address(settings: OperatorSettings, axon: tuple[str, int]) -> None:
    """Refuse an address that strangers could reach without a token, or that is the axon's.

    Raises:
        ConfigError: names the setting.
    """
    if settings.token is None and not is_loopback(settings.host):
        raise ConfigError(
            f"operator.host is {settings.host}, where others can see every job: set operator.token to the name of a "
            "secret that callers must show, or leave operator.host at 127.0.0.1"
        )
    host, port = axon
    if settings.port and settings.port == port and (host == settings.host or _ANY & {host, settings.host}):
        raise ConfigError(f"operator.port is {port}, and so is axon.port: strangers call that one; change either")


def url_of(host: str, port: int) -> str:
    """Where a program on this machine reaches the port."""
    reachable = "127.0.0.1" if host in _ANY else host
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def port_file(ledger: Path) -> Path:
    """The file that says where the daemon of a ledger serves its operator."""
    return ledger.with_name(f"{ledger.name}.port")


def operator_url(ledger: Path) -> str | None:
    """Where the daemon of a ledger serves its operator; None when none does, or it was killed."""
    try:
        document: dict[str, Any] = json.loads(port_file(ledger).read_text(encoding="utf-8"))
        os.kill(int(document["pid"]), 0)
        return str(document["url"])
    except PermissionError:
        return None  # another user's process, or file: not a daemon of ours
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _session_route(sessions: Sessions) -> Route:
    """``POST /session`` with ``{"token": …}`` begins a session of a browser, ``DELETE`` ends it."""

    async def session(request: Request) -> Response:
        answer = Response(status_code=HTTPStatus.NO_CONTENT)
        if request.method == "DELETE":
            sessions.sign_out(sessions.of(request))
            answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
            return answer
        try:
            keep(answer, sessions.sign_in(await _shown(request)), request)
        except NotAllowed as refusal:
            status = HTTP_TOO_MANY if refusal.status == HTTP_TOO_MANY else HTTPStatus.UNAUTHORIZED
            return JSONResponse({"message": refusal.message}, status_code=status)
        return answer

    return Route(SESSION_PATH, session, methods=["POST", "DELETE"])


async def _shown(request: Request) -> str:
    """The token in a body; empty for one that is too long or no such document."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_BODY:
            return ""
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    token: object = document.get("token") if isinstance(document, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return token if isinstance(token, str) else ""


_LONGEST_BODY: Final = 4096
