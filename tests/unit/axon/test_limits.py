"""What a stranger's raw bytes can do to the axon: nothing for long."""

from __future__ import annotations

import asyncio
import json

import pytest

from qcompute.axon.contract import Reply, VerifiedRequest
from qcompute.axon.endpoint import CircuitEndpoint
from qcompute.axon.gate import Gate
from qcompute.axon.server import HttpServer, axon_app, axon_server
from qcompute.axon.settings import AxonSettings, BlacklistSettings
from qcompute.errors import ConfigError, NotAllowed
from qcompute.protocol import ExecutionData, ExecutionStatus
from qcompute.testing.ledger_records import ALICE
from tests.wire.axon_process import Axon, running_axon
from tests.wire.test_requests import headers

HEAD = b"POST /CircuitSynapse HTTP/1.1\r\nHost: x\r\n"


async def exchange(axon: Axon, *parts: bytes, pause_seconds: float = 0.0) -> bytes:
    """Send the parts, and read until the server closes or five seconds have passed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", axon.server.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_seconds)
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_head_that_is_too_large_is_refused() -> None:
    async with running_axon(settings={"max_header_bytes": 4096}) as axon:
        whole = await exchange(axon, HEAD + b"X: " + b"a" * 5000 + b"\r\n\r\n")
        assert whole.startswith(b"HTTP/1.1 431 ")
        assert b'{"message":"the request head is too large"}' in whole


async def test_a_head_that_never_ends_is_refused() -> None:
    async with running_axon(settings={"max_header_bytes": 4096}) as axon:
        parts = [HEAD, *[b"X-%d: %s\r\n" % (n, b"a" * 500) for n in range(20)]]
        # Still sending, the client may meet the closed connection before the answer.
        assert (await exchange(axon, *parts, pause_seconds=0.01))[:13] in (b"HTTP/1.1 431 ", b"")


async def test_a_single_header_line_that_never_ends_is_refused() -> None:
    async with running_axon(settings={"max_header_bytes": 4096}) as axon:
        parts = [HEAD + b"X: ", *[b"a" * 1000] * 10]
        # Still sending, the client may meet the closed connection before the answer.
        assert (await exchange(axon, *parts, pause_seconds=0.01))[:13] in (b"HTTP/1.1 431 ", b"")


async def test_a_slow_head_is_given_up() -> None:
    async with running_axon(settings={"head_timeout_seconds": 0.3}) as axon:
        assert (await exchange(axon, HEAD)).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with running_axon(settings={"head_timeout_seconds": 0.3}) as axon:
        assert (await exchange(axon)).startswith(b"HTTP/1.1 408 ")


async def test_a_slow_body_is_given_up() -> None:
    async with running_axon(settings={"body_timeout_seconds": 0.3}) as axon:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers(axon).items())
        head = f"POST /CircuitSynapse HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n{lines}\r\n"
        answer = await exchange(axon, head.encode() + b"{")
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_chunked_body_is_limited_too() -> None:
    async with running_axon(settings={"max_body_bytes": 4096}) as axon:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers(axon).items())
        head = f"POST /CircuitSynapse HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{lines}\r\n"
        chunk = b"3e8\r\n" + b"a" * 1000 + b"\r\n"
        assert (await exchange(axon, head.encode(), chunk * 10)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\0" * 100, b"A" * 3000 + b"\r\n\r\n"]
)
async def test_what_is_not_http_ends_the_connection_and_nothing_else(junk: bytes) -> None:
    async with running_axon(settings={"head_timeout_seconds": 0.5}) as axon:
        answer = await exchange(axon, junk)
        assert answer.startswith(b"HTTP/1.1 4") or answer == b""
        assert (await exchange(axon, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).startswith(
            b"HTTP/1.1 200 "
        )


async def test_connections_above_the_limit_are_turned_away_and_others_served() -> None:
    async with running_axon(settings={"max_connections": 8, "head_timeout_seconds": 5}) as axon:
        held = [await asyncio.open_connection("127.0.0.1", axon.server.port) for _ in range(8)]
        await asyncio.sleep(0.1)
        assert (await exchange(axon)).startswith(b"HTTP/1.1 503 ")
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.1)
        answer = await exchange(axon, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_two_requests_on_one_connection_are_both_answered() -> None:
    async with running_axon() as axon:
        one = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await exchange(axon, one + last)).count(b"HTTP/1.1 200 ") == 2


async def test_a_port_that_is_taken_names_its_setting() -> None:
    async with running_axon() as axon:
        settings = AxonSettings(ip="127.0.0.1", port=axon.server.port)
        second: HttpServer = axon_server(settings, axon_app(_nothing(), _no_details))
        with pytest.raises(ConfigError, match=r"--axon\.port"):
            await second.start()


async def test_a_row_that_is_not_valid_is_left_out_alone() -> None:
    """A dendrite drops a whole reply for one field it cannot read."""
    good = ExecutionData(
        execution_id="good", shots=1, upload_data_id="u", execution_data=None, status=ExecutionStatus.COMPLETED
    )
    bad = good.model_copy(update={"execution_id": "bad", "shots": None})
    odd = good.model_copy(update={"execution_id": "odd", "execution_data": {"x": object()}})

    async def forward(request: VerifiedRequest) -> Reply:
        del request
        return Reply(success=True, last_circuit="2026-11-21 00:00:00", finished=[bad, good, odd])

    async with running_axon() as axon:
        settings = AxonSettings(ip="127.0.0.1", port=0)
        gate = Gate(settings, BlacklistSettings(), axon.metagraph)
        endpoint = CircuitEndpoint(settings, gate, forward, axon.signer.hotkey)
        server = axon_server(settings, axon_app(endpoint, _no_details))
        await server.start()
        axon.server, first = server, axon.server
        body = json.dumps(
            {
                "execution_id": "_collect_only",
                "shots": 0,
                "configuration_data": {},
                "input_data_url": "",
                "last_circuit": "",
            }
        )
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers(axon).items())
        lines += f"Content-Length: {len(body)}\r\nConnection: close\r\n"
        head = f"POST /CircuitSynapse HTTP/1.1\r\nHost: x\r\n{lines}\r\n"
        answer = await exchange(axon, head.encode() + body.encode())
        rows = json.loads(answer.split(b"\r\n\r\n", 1)[1])["finished_executions"]
        assert [row["execution_id"] for row in rows] == ["good"]
        axon.server = first
        await server.stop()


def _nothing() -> CircuitEndpoint:
    settings = AxonSettings()

    async def forward(request: VerifiedRequest) -> Reply:
        raise NotAllowed(request.synapse.execution_id)

    return CircuitEndpoint(settings, Gate(settings, BlacklistSettings(), lambda: None), forward, ALICE)


async def _no_details() -> dict[str, object]:
    return {}
