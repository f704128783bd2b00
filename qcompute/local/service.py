"""A real HTTP server on loopback, with a log of what it was asked and faults that a test can order."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FaultKind(StrEnum):
    """What goes wrong."""

    STATUS = "status"
    """Answered with a status, and not processed."""
    STATUS_AFTER = "status_after"
    """Processed, then answered with a status: a gateway that lost patience."""
    TRUNCATE = "truncate"
    """Processed; half of the answer comes, then the connection is cut."""
    DROP_BEFORE = "drop_before"
    """The connection is cut; not processed."""
    DROP_AFTER = "drop_after"
    """Processed, then the connection is cut: the answer is lost."""
    LATE = "late"
    """Processed at once, but the answer comes late."""
    DELAY = "delay"
    """Processed late, and answered then."""
    DRIP = "drip"
    """The answer comes a byte at a time."""


@dataclass(slots=True)
class Fault:
    """``match`` is searched in ``"METHOD /path"``; ``times`` counts down, None is for ever.

    ``body`` is what comes with a status; ``{"error": "ordered"}`` as JSON when there is none.
    """

    match: str
    kind: FaultKind
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0
    times: int | None = 1
    body: bytes | None = None
    content_type: str = "application/json"

    def answer(self) -> web.Response:
        """What a fault with a status answers."""
        body = b'{"error": "ordered"}' if self.body is None else self.body
        return web.Response(body=body, status=self.status, headers=self.headers, content_type=self.content_type)

    def takes(self, request: web.Request) -> bool:
        """Whether this fault befalls the request; uses it up."""
        if self.times == 0 or not re.search(self.match, f"{request.method} {request.path}"):
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came in, and the status it got (None: no answer)."""

    method: str
    path: str
    status: int | None


class LocalService:
    """Base of the embedded platform's servers. `start` and `stop` may alternate; the port stays the same."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.asked: list[Asked] = []
        self.under_way = 0
        """Requests being processed, those included whose client has gone away."""
        self._port = 0
        self._runner: web.AppRunner | None = None

    def routes(self) -> list[web.RouteDef]:
        """What the server answers."""
        raise TypeError("a service has routes")

    @property
    def url(self) -> str:
        """Base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen; on a free port the first time, on the same one later."""
        app = web.Application(middlewares=[self._middleware], client_max_size=4 << 20)
        app.add_routes(self.routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Refuse connections from now on."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        fault = next((fault for fault in self.faults if fault.takes(request)), None)
        self.under_way += 1
        try:
            response = await (handler(request) if fault is None else self._faulty(fault, request, handler))
        except web.HTTPException as refusal:
            self.asked.append(Asked(request.method, request.path, refusal.status))
            raise
        finally:
            self.under_way -= 1
        self.asked.append(Asked(request.method, request.path, response.status))
        return response

    async def _faulty(  # noqa: PLR0911 - one for each kind
        self, fault: Fault, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        match fault.kind:
            case FaultKind.STATUS:
                return fault.answer()
            case FaultKind.STATUS_AFTER:
                await handler(request)
                return fault.answer()
            case FaultKind.TRUNCATE:
                return await _half(request, await handler(request))
            case FaultKind.DROP_BEFORE:
                return _cut(request)
            case FaultKind.DROP_AFTER:
                await handler(request)
                return _cut(request)
            case FaultKind.LATE:
                answer = await handler(request)
                await asyncio.sleep(fault.seconds)
                return answer
            case FaultKind.DELAY:
                await asyncio.sleep(fault.seconds)
                return await handler(request)
            case FaultKind.DRIP:
                return await _drip(request, await handler(request), fault.seconds)
        assert_never(fault.kind)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def _half(request: web.Request, whole: web.StreamResponse) -> web.StreamResponse:
    """The first half of the same answer under the length of the whole; nothing of one that has no body."""
    body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b""
    if not body:
        return _cut(request)
    response = web.StreamResponse(status=whole.status, headers={"Content-Type": whole.content_type})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    _cut(request)
    return response


async def _drip(request: web.Request, whole: web.StreamResponse, seconds: float) -> web.StreamResponse:
    """The same answer, one byte each ``seconds``."""
    body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b""
    response = web.StreamResponse(status=whole.status)
    response.content_length = len(body)
    await response.prepare(request)
    for position in range(len(body)):
        await response.write(body[position : position + 1])
        await asyncio.sleep(seconds)
    return response
