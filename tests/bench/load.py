"""The load generator, a process of its own: sends pre-signed requests on kept-alive connections and times each.

``python -m tests.bench.load`` reads one JSON object: ports (connections take turns), miner, connections, requests (per
connection), urls, last_circuit, validator (a key URI). Prints one JSON line: the fields of `Result`.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass

import uvloop

from qcompute.chain.keys import signer_from_uri
from tests.bench.requests import Work, presigned


@dataclass(frozen=True, slots=True)
class Result:
    """What the load generator saw."""

    requests: int
    ok: int
    began_at: float
    """On the system's monotonic clock."""
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    wrong: str
    """The first answer that was not a good one."""


async def _connection(
    port: int, requests: list[bytes], start: asyncio.Event, times: list[float], bad: list[str]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await start.wait()
    for request in requests:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
        times.append(time.perf_counter() - began)
        if not head.startswith(b"HTTP/1.1 200") or b'"success":true' not in body.replace(b" ", b""):
            bad.append((head[:40] + body[:300]).decode(errors="replace"))
    writer.close()
    await writer.wait_closed()


async def load(ports: list[int], miner: str, validator: str, work: Work, *, connections: int, requests: int) -> Result:
    """Run all connections at once, from one common start."""
    signer = signer_from_uri(validator)
    start, times, bad = asyncio.Event(), list[float](), list[str]()
    tasks: list[asyncio.Task[None]] = []
    for connection in range(connections):
        port = ports[connection % len(ports)]
        numbers = range(connection * requests, (connection + 1) * requests)
        signed = presigned(signer, miner, work, numbers, port)
        tasks.append(asyncio.create_task(_connection(port, signed, start, times, bad)))
    await asyncio.sleep(0.2)  # all connections are open before the clock starts
    began = time.monotonic()
    start.set()
    await asyncio.gather(*tasks)
    seconds = time.monotonic() - began
    cuts = statistics.quantiles(times, n=100)
    return Result(
        requests=len(times),
        ok=len(times) - len(bad),
        began_at=began,
        seconds=seconds,
        per_second=len(times) / seconds,
        p50_ms=cuts[49] * 1000,
        p99_ms=cuts[98] * 1000,
        worst_ms=max(times) * 1000,
        wrong=bad[0] if bad else "",
    )


def main() -> None:
    """Read the wish, run, print."""
    wish = json.loads(sys.stdin.read())
    work = Work(tuple(wish["urls"]), wish.get("last_circuit", Work().last_circuit))
    run = load(
        wish["ports"],
        wish["miner"],
        wish["validator"],
        work,
        connections=wish["connections"],
        requests=wish["requests"],
    )
    sys.stdout.write(json.dumps(asdict(uvloop.run(run))) + "\n")


if __name__ == "__main__":
    main()
