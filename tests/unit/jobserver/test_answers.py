"""What the client makes of servers that answer badly, and what it sends to whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompute.errors import ConfigError, DeliveryError, UploadRefused
from qcompute.jobserver import JobServerSettings, open_job_server
from qcompute.jobserver.client import HttpJobServer
from qcompute.jobserver.contract import BackendReport, BackendStatus, UploadSlot
from qcompute.jobserver.web import LONGEST_RETRY_AFTER_SECONDS, retry_after_seconds
from qcompute.units import ExecutionId
from tests.unit.jobserver.platform import SIGNER
from tests.unit.jobserver.scripted import Scripted, cut, in_turn, never_ends, says, scripted

JOB = ExecutionId("6f1c-0001")
COUNTS = {"00": 500, "11": 500}
ONLINE = BackendReport(True, BackendStatus.ONLINE, 3, {"device_id": "d", "num_qubits": 5})
QUERY = "?X-Amz-Credential=a%2Fb&X-Amz-Signature=c+d%20e%7E"


@asynccontextmanager
async def talking(**changes: Any) -> AsyncGenerator[tuple[Scripted, HttpJobServer], None]:
    async with scripted() as server:
        client = open_job_server(server.settings(**changes), SIGNER)
        try:
            yield server, client
        finally:
            await client.close()


def place(server: Scripted) -> UploadSlot:
    return UploadSlot("up-1", f"{server.url}/bucket/up-1{QUERY}")


async def test_api_calls_look_like_the_reference_miners() -> None:
    async with talking() as (server, client):
        server.answers["POST /v1/executions/upload"] = says(201, '{"upload_url": "http://x/y", "id": "up-1"}')
        await client.upload_slot()
        await client.report_failed(JOB, "laser off")
        await client.report_backend(ONLINE)
        upload, failed, backend = server.heard[1:]
        assert (upload.method, upload.target, upload.body) == ("POST", "/v1/executions/upload", b"{}")
        assert (failed.method, failed.target) == ("PATCH", "/v1/executions/6f1c-0001")
        assert failed.json() == {"status": "Failed", "message": "laser off"}
        assert (backend.method, backend.target) == ("PATCH", "/v1/backends")
        assert backend.json() == {
            "accepting_jobs": True,
            "status": "Online",
            "queue_depth": 3,
            "metadata": {"device_id": "d", "num_qubits": 5},
        }
        for heard in (upload, failed, backend):
            assert heard.headers["authorization"] == "Bearer token-1"
            assert heard.headers["content-type"] == "application/json"


async def test_an_execution_id_stays_one_piece_of_the_path() -> None:
    async with talking() as (server, client):
        await client.report_failed(ExecutionId("../a b?c=d#e%2F"), "laser off")
        assert server.asked("PATCH")[0].target == "/v1/executions/..%2Fa%20b%3Fc%3Dd%23e%252F"


async def test_an_upload_is_the_counts_alone_and_carries_no_token() -> None:
    async with talking() as (server, client):
        await client.report_backend(ONLINE)
        await client.put_counts(place(server), COUNTS)
        put = server.asked("PUT")[0]
        assert put.body == b'{"00": 500, "11": 500}'
        assert put.headers["content-type"] == "application/json"
        assert "authorization" not in put.headers
        assert put.target == f"/bucket/up-1{QUERY}"  # a signed query must arrive byte for byte


async def test_cookies_are_not_kept() -> None:
    async with talking() as (server, client):
        server.answers["PATCH /v1/backends"] = says(Set_Cookie="session=1; Path=/")
        await client.report_backend(ONLINE)
        await client.report_backend(ONLINE)
        assert all("cookie" not in heard.headers for heard in server.heard)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with talking() as (server, client):
        await client.report_backend(ONLINE)
        assert len(server.asked("PATCH")) == 1


async def test_redirects_are_not_followed() -> None:
    async with talking() as (server, client):
        away = says(307, Location="/elsewhere")
        server.answers |= {"PATCH /v1/backends": away, "PUT /bucket/up-1": away}
        with pytest.raises(DeliveryError, match="PATCH backends answered 307"):
            await client.report_backend(ONLINE)
        with pytest.raises(DeliveryError, match="answered 307"):
            await client.put_counts(place(server), COUNTS)
        assert all(heard.target != "/elsewhere" for heard in server.heard)


@pytest.mark.parametrize("status", [404, 409, 410])
async def test_a_no_of_the_token_service_is_not_one_of_the_job_server(status: int) -> None:
    """Else a failure would count as told that nobody was told."""
    async with talking() as (server, client):
        server.answers["GET /token"] = says(status)
        with pytest.raises(DeliveryError, match=f"GET token answered {status}"):
            await client.report_failed(JOB, "laser off")
        assert server.asked("PATCH") == []


@pytest.mark.parametrize("status", [404, 409, 410])
async def test_a_job_that_is_over_counts_as_told_with_one_line(status: int, caplog: pytest.LogCaptureFixture) -> None:
    async with talking() as (server, client):
        server.answers[f"PATCH /v1/executions/{JOB}"] = never_ends(status)
        await client.report_failed(JOB, "laser off")
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert len(server.asked("PATCH")) == 1


async def test_a_404_to_a_status_report_is_an_error() -> None:
    async with talking() as (server, client):
        server.answers["PATCH /v1/backends"] = says(404)
        with pytest.raises(DeliveryError) as caught:
            await client.report_backend(ONLINE)
        assert caught.value.status == 404


async def test_a_401_with_an_endless_page_is_still_a_401() -> None:
    async with talking() as (server, client):
        server.answers["PATCH /v1/backends"] = in_turn(never_ends(401), says())
        await client.report_backend(ONLINE)
        assert [heard.headers["authorization"] for heard in server.asked("PATCH")] == [
            "Bearer token-1",
            "Bearer token-2",
        ]


async def test_after_401_for_ever_each_call_tries_twice_and_no_more() -> None:
    async with talking() as (server, client):
        server.answers["PATCH /v1/backends"] = says(401)
        for _ in range(3):
            with pytest.raises(DeliveryError, match="401 to a fresh token"):
                await client.report_backend(ONLINE)
        assert len(server.asked("PATCH")) == 6
        assert server.tokens_given == 4


async def test_many_calls_refused_at_once_share_one_new_token() -> None:
    async with talking() as (server, client):
        await client.report_backend(ONLINE)
        stale = says(401)

        async def by_token(request: Any) -> Any:
            return await (stale if request.headers["Authorization"] == "Bearer token-1" else says())(request)

        server.answers["PATCH /v1/backends"] = by_token
        await asyncio.gather(*(client.report_backend(ONLINE) for _ in range(30)))
        assert server.tokens_given == 2


async def test_a_refused_upload_is_one_however_long_the_page_is() -> None:
    async with talking() as (server, client):
        server.answers["PUT /bucket/up-1"] = never_ends(403)
        with pytest.raises(UploadRefused) as caught:
            await client.put_counts(place(server), COUNTS)
        assert caught.value.status == 403


async def test_a_stored_result_is_stored_however_the_answer_goes_on() -> None:
    async with talking() as (server, client):
        server.answers["PUT /bucket/up-1"] = never_ends(200)
        await client.put_counts(place(server), COUNTS)
        assert len(server.asked("PUT")) == 1


async def test_an_upload_that_is_cut_is_not_repeated_behind_our_back() -> None:
    """By itself aiohttp sends a PUT once more when the connection is cut."""
    async with talking() as (server, client):
        server.answers["PUT /bucket/up-1"] = in_turn(says(), cut)
        await client.put_counts(place(server), COUNTS)
        with pytest.raises(DeliveryError):
            await client.put_counts(place(server), COUNTS)
        assert len(server.asked("PUT")) == 2


@pytest.mark.parametrize(
    "text",
    ["[" * 60_000, "null", '{"upload_url": null, "id": "x"}', '{"upload_url": "", "id": "x"}', '{"id": "x"}'],
    ids=["nested", "null", "url null", "url empty", "no url"],
)
async def test_an_upload_place_that_is_none_is_a_delivery_error(text: str) -> None:
    async with talking() as (server, client):
        server.answers["POST /v1/executions/upload"] = says(200, text)
        with pytest.raises(DeliveryError, match="POST executions/upload answered something that is not"):
            await client.upload_slot()


async def test_an_endless_upload_place_is_given_up_early() -> None:
    async with talking() as (server, client):
        server.answers["POST /v1/executions/upload"] = never_ends(200)
        with pytest.raises(DeliveryError, match="POST executions/upload answered more than 65536 bytes"):
            await client.upload_slot()


async def test_errors_name_the_call_and_the_status_and_nothing_else() -> None:
    async with talking() as (server, client):
        server.answers[f"PATCH /v1/executions/{JOB}"] = says(500, "stack trace of theirs")
        with pytest.raises(DeliveryError) as caught:
            await client.report_failed(JOB, "laser off")
        assert str(caught.value) == "PATCH executions/{id} answered 500"


@pytest.mark.parametrize(
    "url",
    [
        "https://jobs.example:abc",
        "https://[::1",
        "https://jobs.example/?key=hush",
        "https://jobs.example/#hush",
        "https://miner:hush@jobs.example",
        "https://hush@jobs.example",
        "",
    ],
)
@pytest.mark.parametrize("name", ["url", "tensorauth_url"])
def test_a_base_url_with_anything_odd_is_refused_without_showing_it(url: str, name: str) -> None:
    good = JobServerSettings(url="https://jobs.example", tensorauth_url="https://auth.example")
    settings = good.model_copy(update={name: url})
    with pytest.raises(ConfigError) as caught:
        open_job_server(settings, SIGNER)
    assert {"url": "JOB_SERVER_URL", "tensorauth_url": "TENSORAUTH_URL"}[name] in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "Jobs.Lan"])
def test_plain_http_stays_on_this_machine_or_goes_to_listed_hosts(host: str) -> None:
    settings = JobServerSettings(
        url=f"http://{host}:8000/base/", tensorauth_url="https://auth.example", allow_http_hosts=("JOBS.lan",)
    )
    assert isinstance(open_job_server(settings, SIGNER), HttpJobServer)


@given(st.one_of(st.text(), st.from_regex(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{1,6} \d+:\d+:\d+ [+-]\d{1,20}")))
def test_no_retry_after_can_break_or_bind_us(text: str) -> None:
    seconds = retry_after_seconds(text)
    assert seconds is None or 0.0 <= seconds <= LONGEST_RETRY_AFTER_SECONDS


def test_a_retry_after_date_too_large_for_a_machine_word_is_none() -> None:
    assert retry_after_seconds("Sat, 21 Nov 2020 01:32:10 +99999999999999") is None
