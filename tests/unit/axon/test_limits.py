"""What a stranger's raw bytes can do to the axon: nothing for long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys

import pytest

from qcompute.axon.contract import Reply, VerifiedRequest
from qcompute.axon.endpoint import CircuitEndpoint
from qcompute.axon.gate import Gate
from qcompute.axon.protocol_guard import MAX_PIPELINED, guarded
from qcompute.axon.server import HttpServer, axon_app, axon_server
from qcompute.axon.settings import AxonSettings, BlacklistSettings
from qcompute.errors import ConfigError, NotAllowed
from qcompute.protocol import ExecutionData, ExecutionStatus
from qcompute.testing.ledger_records import ALICE
from tests.wire.axon_process import Axon, running_axon
from tests.wire.test_requests import headers, post

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
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


async def test_above_the_limit_the_connection_that_waited_longest_gives_way() -> None:
    """The newcomer used to be turned away: whoever held 1,024 idle connections kept all validators out."""
    async with running_axon(settings={"max_connections": 8, "head_timeout_seconds": 5}) as axon:
        held = [await asyncio.open_connection("127.0.0.1", axon.server.port) for _ in range(8)]
        answer = await exchange(axon, HEALTH)
        assert answer.startswith(b"HTTP/1.1 200 ")
        async with asyncio.timeout(2):
            with contextlib.suppress(ConnectionError):
                assert await held[0][0].read() == b""
        for _, writer in held:
            writer.close()


async def test_the_address_that_holds_most_connections_gives_one_up() -> None:
    """Bursts of new connections pushed out a validator's, made a moment before, when age alone decided."""
    async with running_axon(settings={"max_connections": 8, "head_timeout_seconds": 5}) as axon:
        port = axon.server.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.1", 0))
        crowd = [await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0)) for _ in range(30)]
        writer.write(HEALTH)
        async with asyncio.timeout(3):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        for _, other in [(reader, writer), *crowd]:
            other.close()


async def test_a_body_that_drips_on_behind_its_answer_keeps_no_connection() -> None:
    """No timer ran between an early answer and the end of its body: a byte now and then held a connection for ever."""
    async with running_axon() as axon:
        head = b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        async with asyncio.timeout(4):
            answer = await exchange(axon, head, *[b"a"] * 10, pause_seconds=0.05)
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_refusal_is_read_by_a_peer_that_is_still_sending() -> None:
    """The connection used to be reset under the peer, which then saw a network error in place of the reason."""
    async with running_axon(settings={"max_body_bytes": 4096}) as axon:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers(axon).items())
        head = f"POST /CircuitSynapse HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{lines}\r\n"
        answer = await exchange(axon, head.encode(), *[b"3e8\r\n" + b"a" * 1000 + b"\r\n"] * 200, pause_seconds=0.001)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.endswith(b'{"message":"Request body is larger than 4096 bytes"}')


async def test_a_pipeline_is_answered_in_order_up_to_its_limit() -> None:
    """Each of 14,000 requests in one packet used to be kept with all its state: 80 MiB by one connection."""
    async with running_axon() as axon:
        answer = await exchange(axon, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 5000)
        assert 2 <= answer.count(b"HTTP/1.1 200 ") <= MAX_PIPELINED + 1
        assert answer.count(b"HTTP/1.1 ") == answer.count(b"HTTP/1.1 200 ")


async def test_rubbish_behind_a_request_does_not_overtake_its_answer() -> None:
    """A 400 was written at once and taken for the answer of the request before it, which had been carried out."""
    async with running_axon() as axon:
        answer = await exchange(axon, HEALTH.replace(b"Connection: close\r\n", b"") + b"\0\0\0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/1.1 ") == 1


async def test_a_peer_that_reads_nothing_is_cut_off() -> None:
    async with running_axon() as axon:
        limits = guarded(exchange_timeout_seconds=0.3, head_timeout_seconds=60)
        app = axon_app(_nothing(), _no_details)
        server = HttpServer("other", app, host="127.0.0.1", port=0, setting="", protocol=limits)
        await server.start()
        axon.server, first = server, axon.server
        async with asyncio.timeout(3):
            assert await exchange(axon) == b""
        axon.server = first
        await server.stop()


@pytest.mark.parametrize(
    "config", ['{"a": 18446744073709551616}', '{"a": NaN}', '{"a": {"b": [1e999]}}', '{"a": ' + "1" * 5000 + "}"]
)
async def test_a_number_no_reply_could_carry_is_refused_before_the_job_is_taken(config: str) -> None:
    """Such a job was taken and paid for, and then its validator got 500: the reply could not be written."""
    async with running_axon() as axon:
        body = f'{{"execution_id":"big","shots":1,"configuration_data":{config},"input_data_url":"https://x.test/1",'
        status, answer, _ = await post(axon, headers(axon), body.encode() + b'"last_circuit":""}')
        assert status == 422
        assert answer["message"].startswith("Bad request: ")
        assert not await axon.has("big")


@pytest.mark.parametrize("digits", [19, 500, 5000])
async def test_a_version_of_any_length_is_answered(digits: int) -> None:
    """The header is not signed; one with too many digits turned the reply into a 500 when the job was taken already."""
    async with running_axon() as axon:
        status, answer, _ = await post(axon, headers(axon, bt_header_dendrite_version="9" * digits))
        assert (status, answer["dendrite"]["version"]) == (200, None)


def test_the_process_makes_room_for_its_connections() -> None:
    """1,020 idle connections used up the usual 1,024 files: no circuit could be fetched, no result delivered."""
    code = (
        "import resource; from qcompute.axon import server;"
        "from qcompute.axon.settings import AxonSettings;"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard));"
        "server.axon_server(AxonSettings(max_connections=300), None);"
        "soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]; print(soft == min(300 + server.OWN_FILES, hard))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own interpreter
    assert done.stdout.strip() == "True"


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
