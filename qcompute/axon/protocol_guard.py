"""uvicorn's HTTP protocol with the limits it lacks: size of the head, time to send it, number of connections."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def _refusal(status: bytes, message: bytes) -> bytes:
    body = b'{"message":"' + message + b'"}'
    return (
        b"HTTP/1.1 "
        + status
        + b"\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: "
        + str(len(body)).encode()
        + b"\r\n\r\n"
        + body
    )


class GuardedProtocol(HttpToolsProtocol):
    """One connection. The limits are class attributes, set on a subclass by `guarded`."""

    max_head_bytes: ClassVar[int] = 16384
    head_timeout_seconds: ClassVar[float] = 5.0
    max_connections: ClassVar[int] = 1024

    _head_bytes = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._turn_away(_refusal(b"503 Service Unavailable", b"too many connections"))
            return
        self._start_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            if self._head_timer is None:
                self._start_head()  # the first bytes of another request on a kept-alive connection
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > self.max_head_bytes:
            self._turn_away(_refusal(b"431 Request Header Fields Too Large", b"the request head is too large"))

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.max_head_bytes:
            self._turn_away(_refusal(b"431 Request Header Fields Too Large", b"the request head is too large"))
            return
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        if self.cycle is not None:  # pyright: ignore[reportUnnecessaryComparison] - None until a head was accepted
            super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        if self.cycle is not None:  # pyright: ignore[reportUnnecessaryComparison] - as above
            super().on_message_complete()

    def _start_head(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_timeout_seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._in_head and not self.transport.is_closing():
            self._turn_away(_refusal(b"408 Request Timeout", b"the request head took too long"))

    def _turn_away(self, answer: bytes) -> None:
        self._stop_timer()
        self.transport.write(answer)
        self.transport.close()


def guarded(*, max_head_bytes: int, head_timeout_seconds: float, max_connections: int) -> type[GuardedProtocol]:
    """The protocol with these limits."""
    limits = {
        "max_head_bytes": max_head_bytes,
        "head_timeout_seconds": head_timeout_seconds,
        "max_connections": max_connections,
    }
    return type("LimitedProtocol", (GuardedProtocol,), limits)
