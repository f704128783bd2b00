"""Attacks below the synapse: slow, oversized, malformed and flooding HTTP."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tests.hostile.network_attacks import (
    CUT,
    Answer,
    Attack,
    Case,
    at_once,
    dendrite_headers,
    document,
    head,
    in_turn,
    makes,
    post,
    sends,
)
from tests.hostile.network_flood import ELSEWHERE
from tests.hostile.network_victim import MAX_CONNECTIONS, Victim

START: Final = b"POST /CircuitSynapse HTTP/1.1\r\nHost: x\r\n"
HEALTH: Final = b"GET /health HTTP/1.1\r\nHost: x\r\n"
NOT_HTTP: Final = "not an HTTP/1.1 request"
TOO_LARGE: Final = "head is too large"
TOO_SLOW: Final = "head took too long"
MAX_BODY: Final = 65536
ROOT: Final = Path(__file__).resolve().parents[2]


def bytewise(whole: bytes) -> list[bytes]:
    """One byte at a time."""
    return [whole[at : at + 1] for at in range(len(whole))]


def signed_head(victim: Victim, more: bytes) -> bytes:
    """The head of a request that is signed rightly, with these header lines at its end."""
    return head(dendrite_headers(victim), more=more)


def signed(more: bytes, *body: bytes, pause_seconds: float = 0.0, half_close: bool = False) -> Attack:
    """A rightly signed head with these header lines, then these parts of a body."""

    def make(victim: Victim) -> Iterable[bytes]:
        return [signed_head(victim, more), *body]

    return makes(make, pause_seconds=pause_seconds, half_close=half_close)


def plain(request: bytes) -> Attack:
    """One request without a body that closes its connection."""
    return sends(request + b"Connection: close\r\n\r\n")


def held(count: int, first: bytes, *, seconds: float) -> Attack:
    """So many connections that say ``first`` and then nothing for so long; how each ended is not asked."""

    async def attack(victim: Victim) -> list[Answer]:
        began, writers = time.monotonic(), list[asyncio.StreamWriter]()
        for _ in range(count):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", victim.port, local_addr=ELSEWHERE)
            except OSError:
                continue
            writer.write(first)
            writers.append(writer)
        await asyncio.sleep(max(seconds - (time.monotonic() - began), 0.0))
        for writer in writers:
            writer.close()
        return [Answer(CUT, b"", time.monotonic() - began)]

    return attack


def renewed(count: int, *, seconds: float) -> Attack:
    """So many silent connections, each made again soon after it is closed; by a process of its own."""

    async def attack(victim: Victim) -> list[Answer]:
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.hostile.network_flood", str(victim.port), str(count), str(seconds), cwd=ROOT
        )
        await process.wait()
        return [Answer(CUT, b"", time.monotonic() - began)]

    return attack


async def tls(victim: Victim) -> list[Answer]:
    """A TLS client on the plain port."""
    began = time.monotonic()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        await asyncio.open_connection("127.0.0.1", victim.port, ssl=context)
    except (ssl.SSLError, OSError):
        return [Answer(CUT, b"", time.monotonic() - began)]
    return [Answer(200, b"", time.monotonic() - began)]


async def never_read(victim: Victim) -> list[Answer]:
    """Requests without end, whose answers are never read."""
    began = time.monotonic()
    _, writer = await asyncio.open_connection("127.0.0.1", victim.port, limit=1024)
    try:
        for _ in range(4000):
            writer.write((HEALTH + b"\r\n") * 16)
            async with asyncio.timeout(0.5):
                await writer.drain()
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return [Answer(CUT, b"", time.monotonic() - began)]


def pipelined(count: int, request: bytes) -> Attack:
    """The same request so often in one go."""
    return sends(request * count)


def endless_body(request: bytes) -> Attack:
    """A body that drips on after its answer has come."""
    return sends(request + b"Content-Length: 100000000\r\n\r\n", *[b"a"] * 200, pause_seconds=0.2)


def replayed_in_a_pipeline(victim: Victim) -> Iterator[bytes]:
    """One signed request fifty times on one connection; one may be answered."""
    yield post(dendrite_headers(victim), document(), close=False) * 50


SLOW: Final[list[Case]] = [
    Case("a connection that says nothing", sends(), (408,), TOO_SLOW),
    Case("a head byte by byte", sends(*bytewise(START * 3), pause_seconds=0.05), (408,), TOO_SLOW, sampled=True),
    Case(
        "200 heads byte by byte, at once",
        at_once(200, sends(*bytewise(START), pause_seconds=0.1)),
        (408,),
        TOO_SLOW,
        least=200,
    ),
    Case(
        "a signed request whose body comes byte by byte",
        signed(b"Content-Length: 500\r\n", *bytewise(b" " * 100), pause_seconds=0.1),
        (408,),
        "did not arrive in time",
        sampled=True,
    ),
    Case(
        "200 signed bodies byte by byte, at once",
        at_once(200, signed(b"Content-Length: 500\r\n", *bytewise(b" " * 20), pause_seconds=0.2)),
        (408,),
        "did not arrive in time",
        least=200,
    ),
    Case(
        "a chunked body byte by byte",
        signed(b"Transfer-Encoding: chunked\r\n", *bytewise(b"1\r\na\r\n" * 20), pause_seconds=0.1),
        (408,),
        "in time",
    ),
    Case("a body that drips on after GET /health", endless_body(HEALTH), (200,), sampled=True),
    Case("a body that drips on after a 404", endless_body(b"POST /Nope HTTP/1.1\r\nHost: x\r\n"), (404,), "not found"),
    Case("1,000 idle connections", held(1000, b"", seconds=4.0), (CUT,)),
    Case("1,000 idle connections in the middle of a head", held(1000, START, seconds=4.0), (CUT,)),
    Case(
        f"idle connections up to the limit of {MAX_CONNECTIONS}, all renewed",
        renewed(MAX_CONNECTIONS, seconds=6.0),
        (CUT,),
    ),
    Case("half as many again as the limit, all renewed", renewed(MAX_CONNECTIONS * 3 // 2, seconds=6.0), (CUT,)),
    Case("answers that are never read", never_read, (CUT,)),
    Case("half-closed before anything", sends(half_close=True), (CUT,)),
    Case("half-closed within a head", sends(START, half_close=True), (CUT,)),
    Case("half-closed within a signed body", signed(b"Content-Length: 500\r\n", b"{", half_close=True), (CUT,)),
    Case(
        "half-closed behind a signed request",
        makes(lambda victim: [post(dendrite_headers(victim), document(), close=False)], half_close=True),
        (200,),
        sampled=True,
    ),
]

LARGE: Final[list[Case]] = [
    Case("one header of 64 KiB", sends(START + b"X: " + b"a" * 65536 + b"\r\n\r\n"), (431,), TOO_LARGE, sampled=True),
    Case(
        "200 headers of 100 bytes",
        sends(START + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 100) for n in range(200)) + b"\r\n"),
        (431,),
        TOO_LARGE,
    ),
    Case("10,000 headers", sends(START + b"a: b\r\n" * 10_000 + b"\r\n"), (431,), TOO_LARGE, sampled=True),
    Case(
        "50 times 10,000 headers, at once",
        at_once(50, sends(START + b"a: b\r\n" * 10_000 + b"\r\n")),
        (431,),
        TOO_LARGE,
        least=50,
    ),
    Case(
        "a URL of 64 KiB", plain(b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nHost: x\r\n"), (431,), TOO_LARGE, sampled=True
    ),
    Case("a URL of 8 KiB", plain(b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: x\r\n"), (404,), "not found"),
    Case("a query of 8 KiB", plain(b"GET /nope?" + b"a" * 8192 + b" HTTP/1.1\r\nHost: x\r\n"), (404,), "not found"),
    Case(
        "a signed body of 1 MB",
        makes(lambda victim: [post(dendrite_headers(victim), b"a" * 1_000_000)]),
        (413,),
        "larger than 65536",
        sampled=True,
    ),
    Case(
        "a signed body of 1 byte too much",
        makes(lambda victim: [post(dendrite_headers(victim), b"a" * (MAX_BODY + 1))]),
        (413,),
        "larger than 65536",
    ),
    Case(
        "a length of 10^18 and nothing",
        signed(b"Content-Length: 1000000000000000000\r\n"),
        (413,),
        "larger than 65536",
        sampled=True,
    ),
    Case("a length beyond 64 bits", signed(b"Content-Length: 99999999999999999999999\r\n"), (400,), NOT_HTTP),
    Case("an unsigned body of 10 MB", makes(lambda _: [post({}, b"a" * 10_000_000)]), (401,), "Missing Nonce"),
    Case(
        "a chunked body of 1 MB",
        signed(b"Transfer-Encoding: chunked\r\n", *[b"3e8\r\n" + b"a" * 1000 + b"\r\n"] * 1000),
        (413,),
        "larger than 65536",
    ),
    Case(
        "a body of 10 MB of zeros, packed to 10 KB",
        signed(
            b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(gzip.compress(bytes(10_000_000))),
            gzip.compress(bytes(10_000_000)),
        ),
        (422,),
        "Invalid JSON",
        sampled=True,
    ),
]

MALFORMED: Final[list[Case]] = [
    Case(
        "a chunk size that is no number",
        signed(b"Transfer-Encoding: chunked\r\n", b"zz\r\nab\r\n"),
        (400,),
        NOT_HTTP,
        sampled=True,
    ),
    Case("a negative chunk size", signed(b"Transfer-Encoding: chunked\r\n", b"-1\r\nab\r\n"), (400,), NOT_HTTP),
    Case(
        "a chunk size beyond 64 bits",
        signed(b"Transfer-Encoding: chunked\r\n", b"fffffffffffffffff\r\n"),
        (400,),
        NOT_HTTP,
    ),
    Case(
        "a chunk longer than it says",
        signed(b"Transfer-Encoding: chunked\r\n", b"1\r\nabcdef\r\n0\r\n\r\n"),
        (400,),
        NOT_HTTP,
    ),
    Case(
        "a length and chunks",
        signed(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        (400,),
        NOT_HTTP,
        sampled=True,
    ),
    Case(
        "chunks and a length",
        signed(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"),
        (400,),
        NOT_HTTP,
    ),
    Case("two lengths that differ", signed(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"abcde"), (400,), NOT_HTTP),
    Case("a negative length", signed(b"Content-Length: -1\r\n"), (400,), NOT_HTTP),
    Case("a length in words", signed(b"Content-Length: many\r\n"), (400,), NOT_HTTP),
    Case(
        "an encoding that only looks chunked",
        signed(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
        (400,),
        NOT_HTTP,
    ),
    Case("chunked, then identity", signed(b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"), (400,), NOT_HTTP),
    Case(
        "a request hidden in a body that is too short",
        signed(b"Content-Length: 2\r\n", b"{}" + HEALTH + b"\r\n"),
        (422,),
        "Bad request",
    ),
    Case(
        "a request behind a refused one",
        makes(lambda victim: [post(dendrite_headers(victim, nonce="1"), document(), close=False), HEALTH + b"\r\n"]),
        (401,),
        "too old",
    ),
    Case("5,000 pipelined requests", pipelined(5000, HEALTH + b"\r\n"), (200,), least=2, sampled=True),
    Case(
        "100,000 pipelined requests of 18 bytes",
        pipelined(100_000, b"GET / HTTP/1.1\r\n\r\n"),
        (404,),
        "not found",
        least=2,
        sampled=True,
    ),
    Case(
        "20 times 100,000 pipelined, at once",
        at_once(20, pipelined(100_000, b"GET / HTTP/1.1\r\n\r\n")),
        (404,),
        "not found",
        least=40,
    ),
    Case(
        "one signed request 50 times in a pipeline",
        makes(replayed_in_a_pipeline),
        (200, 401),
        "newer one was last processed",
        least=2,
        sampled=True,
    ),
    Case(
        "rubbish behind a signed request",
        makes(lambda victim: [post(dendrite_headers(victim), document(), close=False) + b"\0\0\0\r\n\r\n"]),
        (200,),
        sampled=True,
    ),
    Case("TLS on the plain port", tls, (CUT,), sampled=True),
    Case("HTTP/0.9", sends(b"GET /health\r\n\r\n"), (505,), "speaks HTTP/1.1"),
    Case("the preface of HTTP/2", sends(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), (400,), NOT_HTTP, sampled=True),
    Case("HTTP/3.0 in the request line", plain(b"GET /health HTTP/3.0\r\nHost: x\r\n"), (400,), NOT_HTTP),
    Case("an upgrade to WebSocket", plain(HEALTH + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"), (200,)),
    Case("a tunnel", sends(b"CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n"), (400,), NOT_HTTP),
    Case("NUL in the path", plain(b"GET /\0 HTTP/1.1\r\nHost: x\r\n"), (400,), NOT_HTTP),
    Case("NUL in a header", plain(HEALTH + b"X: \0\r\n"), (400,), NOT_HTTP, sampled=True),
    Case("a line break in a header's name", plain(HEALTH + b"X\rY: 1\r\n"), (400,), NOT_HTTP),
    Case("a space before a header's colon", plain(HEALTH + b"Content-Length : 5\r\n"), (400,), NOT_HTTP),
    Case("bytes beyond ASCII in the path", plain("GET /ünï HTTP/1.1\r\nHost: x\r\n".encode()), (400,), NOT_HTTP),
    Case(
        "the path in percent signs", plain(b"POST /%43ircuitSynapse HTTP/1.1\r\nHost: x\r\n"), (401,), "Missing Nonce"
    ),
    Case("a broken percent sign", plain(b"GET /%zz HTTP/1.1\r\nHost: x\r\n"), (404,), "not found"),
    Case("a path out of the root", plain(b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n"), (404,), "not found"),
    Case(
        "a whole URL as the target", plain(b"GET http://169.254.169.254/ HTTP/1.1\r\nHost: x\r\n"), (404,), "not found"
    ),
    Case("a Host that is no host", plain(b"GET /nope HTTP/1.1\r\nHost: [\r\n"), (404,), "not found"),
    Case("OPTIONS *", plain(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n"), (404,), "nothing here"),
    Case("a method nobody knows", plain(b"BREW /CircuitSynapse HTTP/1.1\r\nHost: x\r\n"), (400,), NOT_HTTP),
    Case(
        "GET, PUT, PATCH and DELETE of the synapse",
        in_turn(
            *(
                plain(b"%s /CircuitSynapse HTTP/1.1\r\nHost: x\r\n" % method)
                for method in (b"GET", b"PUT", b"PATCH", b"DELETE")
            )
        ),
        (405,),
        "POST only",
        least=4,
    ),
    Case("TRACE", plain(b"TRACE /CircuitSynapse HTTP/1.1\r\nHost: x\r\n"), (405,), "POST only"),
    Case(
        "other synapses",
        in_turn(
            *(
                plain(b"POST /%s HTTP/1.1\r\nHost: x\r\n" % name)
                for name in (b"", b"Synapse", b"CircuitSynapse/", b"docs", b"openapi.json")
            )
        ),
        (404,),
        "not found",
        least=5,
    ),
]
