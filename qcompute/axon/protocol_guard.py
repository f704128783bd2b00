"""uvicorn's HTTP protocol with the limits it lacks: size of the head, time, number of connections and of requests.

Whoever holds a connection without getting on with it loses it: to a timer, or to a newcomer when there are too many.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Any, ClassVar, Final, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_PIPELINED: Final = 16
"""Requests that may wait behind one that is being answered; a dendrite sends one for each connection."""

LINGER_SECONDS: Final = 1.0
"""How long what a refused peer still sends is read and thrown away, so that it gets to read its refusal."""


class _EnoughError(Exception):
    """Ends the parsing of what was received; httptools wraps it into its own error."""


class _Lingering:
    """A transport whose closing takes its time; uvicorn closes by itself after an answer that ends a connection."""

    def __init__(self, transport: asyncio.Transport, linger: Callable[[], None]) -> None:
        self.write = transport.write
        self.is_closing = transport.is_closing
        self.close = linger


class GuardedProtocol(HttpToolsProtocol):
    """One connection. The limits are class attributes, set on a subclass by `guarded`."""

    max_head_bytes: ClassVar[int] = 16384
    head_timeout_seconds: ClassVar[float] = 5.0
    exchange_timeout_seconds: ClassVar[float] = 60.0
    max_connections: ClassVar[int] = 1024
    by_peer: ClassVar[dict[bytes, dict[GuardedProtocol, float]]]
    """This server's connections by peer, each with when it came or got its last answer; longest ago first."""

    _peer = b""
    _head_bytes = 0
    _in_head = True
    _deaf = False
    _at_end = False
    _head_timer: asyncio.TimerHandle | None = None
    _exchange_timer: asyncio.TimerHandle | None = None
    _linger_timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._oldest_gives_way()
        self._peer = _peer_of(self.client)
        self.by_peer.setdefault(self._peer, {})[self] = self.loop.time()
        self._exchange_timer = self.loop.call_later(self.exchange_timeout_seconds, self._look_for_progress)
        self._start_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._forget()
        for timer in (self._exchange_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    @override
    def eof_received(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride] - asyncio's own answer
        """Whether to stay open for answers that are owed; more requests will not come."""
        self._deaf = self._at_end = True
        self._stop_timer()
        return self._owes_answers()

    @override
    def data_received(self, data: bytes) -> None:
        if self._deaf or self.transport.is_closing():
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
        if self._deaf or self.transport.is_closing() or len(self.pipeline) >= MAX_PIPELINED:
            self._deaf = True
            raise _EnoughError
        super().on_message_begin()
        self._in_head = True

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.max_head_bytes:
            self._turn_away(_refusal(b"431 Request Header Fields Too Large", b"the request head is too large"))
            raise _EnoughError
        if self.parser is not None and self.parser.get_http_version() not in ("1.0", "1.1"):
            self._turn_away(_refusal(b"505 HTTP Version Not Supported", b"this port speaks HTTP/1.1"))
            raise _EnoughError
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", _Lingering(self.transport, self.linger))

    @override
    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    @override
    def on_response_complete(self) -> None:
        """Also closes where nothing that comes next could be told from what was not read."""
        own = self.by_peer.get(self._peer, {})
        if own.pop(self, None) is not None:
            own[self] = self.loop.time()
        is_last = not self.pipeline
        super().on_response_complete()
        # An unread body would keep its connection for as long as it drips: no timer runs outside heads and answers.
        if is_last and (self._deaf or self.cycle.more_body):
            self._stop_timer()
            self.linger()

    @override
    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP; the parser's own words are not told."""
        self._turn_away(_refusal(b"400 Bad Request", b"this is not an HTTP/1.1 request"))

    def linger(self) -> None:
        """Close our side, and the other when the peer is done or out of time.

        Closing both while it still sends resets the connection, and the peer loses the answer it has not read yet.
        """
        if self._linger_timer is not None or self.transport.is_closing():
            return
        all_read = not self._deaf and not self.cycle.more_body
        self._deaf = True
        if all_read or self._at_end:
            self.transport.close()
            return
        self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)
        self.transport.write_eof()

    def _oldest_gives_way(self) -> None:
        """Of the peer that holds most: to keep a validator out takes as many addresses as there are connections."""
        if self.by_peer:
            oldest = next(iter(max(self.by_peer.values(), key=len)))
            oldest._forget()  # noqa: SLF001 - one of its own kind
            oldest.transport.abort()

    def _forget(self) -> None:
        own = self.by_peer.get(self._peer, {})
        own.pop(self, None)
        if not own:
            self.by_peer.pop(self._peer, None)

    def _look_for_progress(self) -> None:
        """End a connection that got no answer for too long, whatever its peer does or does not read."""
        left = (
            self.by_peer.get(self._peer, {}).get(self, float("-inf")) + self.exchange_timeout_seconds - self.loop.time()
        )
        if left <= 0:
            self.transport.abort()
        else:
            self._exchange_timer = self.loop.call_later(left, self._look_for_progress)

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
        """Say no and close; where answers are still owed, they go out first and this one is not given at all.

        A peer takes answers in the order of its requests: a refusal that overtakes would be taken for an answer.
        """
        self._stop_timer()
        if self.transport.is_closing():
            return
        self._deaf = True
        if self._owes_answers():
            return
        self.transport.write(answer)
        self.linger()

    def _owes_answers(self) -> bool:
        cycle = self.cycle
        if cycle is None or cycle.response_complete:  # pyright: ignore[reportUnnecessaryComparison] - None at first
            return False
        is_the_refused_one = cycle.more_body and not cycle.response_started and not self.pipeline
        return not is_the_refused_one


def guarded(
    *,
    max_head_bytes: int = GuardedProtocol.max_head_bytes,
    head_timeout_seconds: float = GuardedProtocol.head_timeout_seconds,
    exchange_timeout_seconds: float = GuardedProtocol.exchange_timeout_seconds,
    max_connections: int = GuardedProtocol.max_connections,
) -> type[GuardedProtocol]:
    """The protocol of one server, with these limits.

    ``exchange_timeout_seconds`` is how long a connection may take from one whole answer to the next, idling included.
    """
    limits: dict[str, Any] = {
        "max_head_bytes": max_head_bytes,
        "head_timeout_seconds": head_timeout_seconds,
        "exchange_timeout_seconds": exchange_timeout_seconds,
        "max_connections": max_connections,
        "by_peer": dict[bytes, dict[GuardedProtocol, float]](),
    }
    return type("LimitedProtocol", (GuardedProtocol,), limits)


def _peer_of(client: tuple[str, int] | None) -> bytes:
    """An IPv4 address, or the network an IPv6 address is in: whoever has one of those has 2^64."""
    try:
        return ipaddress.ip_address(client[0] if client else "").packed[:8]
    except ValueError:
        return b""


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
