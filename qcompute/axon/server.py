"""The axon's HTTP server: Starlette on uvicorn with limits, started and stopped within the daemon's event loop."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from qcompute import __version__
from qcompute.axon.dendrite import status_headers
from qcompute.axon.endpoint import SYNAPSES
from qcompute.axon.protocol_guard import GuardedProtocol, guarded
from qcompute.axon.settings import AxonSettings
from qcompute.errors import ConfigError
from qcompute.protocol import SYNAPSE_NAME

_log = logging.getLogger(__name__)

_PATH: Final = f"/{SYNAPSE_NAME}"
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY")
"""Those the parser knows and a path of ours may be asked with."""
_BACKLOG: Final = 2048

OWN_FILES: Final = 1024
"""Files and connections the daemon has open for its own work, at most; a busy one has about 200."""

ANSWER_SECONDS: Final = 10.0
"""The longest an answer may take to be made and read; a dendrite waits no longer either."""

Details = Callable[[], Awaitable[dict[str, Any]]]


def axon_app(endpoint: ASGIApp, details: Details) -> ASGIApp:
    """The whole application: the one synapse, ``GET /health``, and the reference's words for everything else."""

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "version": __version__, **await details()})

    async def unknown(request: Request) -> JSONResponse:
        name = request.url.path.strip("/").split("/", 1)[0][:64]
        return _refused(404, f"Synapse name '{name}' not found. Available synapses {SYNAPSES}")

    async def refused(_: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, HTTPException):
            return _refused(500, "this is a bug of ours")
        allowed = (error.headers or {}).get("Allow")
        words = "there is nothing here" if allowed is None else f"only {allowed} is understood here"
        return _refused(error.status_code, words, allowed)

    async def wrong_health(_: Request) -> JSONResponse:
        return _refused(405, "/health takes GET only", "GET, HEAD")

    async def wrong_method(_: Request) -> JSONResponse:
        return _refused(405, f"{_PATH} takes POST only", "POST")

    others = Starlette(
        exception_handlers={HTTPException: refused},
        routes=[
            Route("/health", health, methods=["GET", "HEAD"]),
            Route(_PATH, wrong_method, methods=_METHODS),
            Route("/health", wrong_health, methods=_METHODS),
            Route("/{rest:path}", unknown, methods=_METHODS),
        ],
    )

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # Routing a validator's visit through Starlette would cost as much as checking its signature.
        if scope["type"] == "http" and scope["path"] == _PATH and scope["method"] == "POST":
            await endpoint(scope, receive, send)
        else:
            await others(scope, receive, send)

    return app


def _refused(status: int, message: str, allowed: str | None = None) -> JSONResponse:
    headers = {name.decode(): value.decode() for name, value in status_headers(status, message, 0.0)}
    if allowed is not None:
        headers["Allow"] = allowed
    return JSONResponse({"message": message}, status_code=status, headers=headers)


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, and with a word when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class HttpServer:
    """One uvicorn server in the running event loop; signals stay with the daemon."""

    def __init__(
        self,
        name: str,
        app: ASGIApp,
        *,
        host: str,
        port: int,
        setting: str,
        protocol: type[GuardedProtocol] | None = None,
        keep_alive_seconds: int = 5,
    ) -> None:
        self._name = name
        self._host = host
        self._port = port
        self._setting = setting
        self._server = _Server(
            uvicorn.Config(
                app,
                http=protocol or guarded(),
                timeout_keep_alive=keep_alive_seconds,
                backlog=_BACKLOG,
                log_config=None,
                log_level="error",  # its warnings are a line for each thing a stranger sends that is no HTTP
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                proxy_headers=False,
            )
        )
        self._listener: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is really bound."""
        if self._listener is None:
            raise RuntimeError(f"{self._name} is not started")
        return int(self._listener.getsockname()[1])

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigError: the address cannot be bound; names the setting.
        """
        try:
            self._listener = _bound(self._host, self._port)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ConfigError(
                f"{self._name} cannot listen on {self._host}:{self._port}: {reason}; set {self._setting}"
            ) from None
        self._serving = asyncio.create_task(self._server.serve([self._listener]), name=self._name)
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()

    async def run(self) -> None:
        """Wait until the server ends; it ends by itself only when something is wrong."""
        if self._serving is not None:
            await asyncio.shield(self._serving)

    async def stop(self, *, limit_seconds: float = 5.0) -> None:
        """Take no more connections, let answers under way out, close. A no-op when not started or stopped before."""
        if self._serving is None:
            return
        self._server.should_exit = True
        done, _ = await asyncio.wait({self._serving}, timeout=limit_seconds)
        if not done:
            self._server.force_exit = True
            self._serving.cancel()
            await asyncio.wait({self._serving}, timeout=1.0)
        self._serving = None


def axon_server(settings: AxonSettings, app: ASGIApp) -> HttpServer:
    """The axon's server, with its limits, and with room in the process for its connections."""
    _make_room(settings.max_connections)
    return HttpServer(
        "axon",
        app,
        host=settings.ip,
        port=settings.port,
        setting="--axon.ip and --axon.port",
        protocol=guarded(
            max_head_bytes=settings.max_header_bytes,
            head_timeout_seconds=settings.head_timeout_seconds,
            max_connections=settings.max_connections,
            exchange_timeout_seconds=settings.keep_alive_seconds
            + settings.head_timeout_seconds
            + settings.body_timeout_seconds
            + ANSWER_SECONDS,
        ),
        keep_alive_seconds=settings.keep_alive_seconds,
    )


def _make_room(connections: int) -> None:
    """Let the process open as many files as it may hold connections, and its own besides.

    The usual soft limit is 1,024 files: strangers' connections alone would use it up, and then no circuit could be
    fetched, no result delivered and no vendor asked.
    """
    wanted = connections + OWN_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        _log.warning(
            "this process may open %d files, and wants %d: raise `ulimit -Hn`, or lower --axon.max_connections",
            most,
            wanted,
            extra={"action": "limits"},
        )


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
