"""One try a call, a fresh token once, and no secret in any error."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from qcompute.errors import ConfigError, DeliveryError, UploadRefused
from qcompute.jobserver import JobServerSettings, open_job_server
from qcompute.jobserver.contract import BackendReport, BackendStatus, UploadSlot
from qcompute.local.service import Fault, FaultKind
from qcompute.units import ExecutionId
from tests.unit.jobserver.platform import SIGNER, running

COUNTS = {"00": 480, "11": 520}
ONLINE = BackendReport(True, BackendStatus.ONLINE, 3, {"device_id": "d"})


async def test_a_result_is_put_where_the_job_server_says() -> None:
    async with running() as both:
        slot = await both.client.upload_slot()
        await both.client.put_counts(slot, COUNTS)
        assert both.platform.store.objects == {slot.upload_id: COUNTS}
        assert "X-Amz" not in repr(slot)


async def test_reports_are_heard() -> None:
    async with running() as both:
        job = both.platform.jobs.add_job("OPENQASM 2.0;", 1)
        await both.client.report_failed(job, "laser off")
        await both.client.report_backend(ONLINE)
        assert both.platform.jobs.executions[job].message == "laser off"
        report = both.platform.jobs.backend_reports[0]
        assert (report["accepting_jobs"], report["status"], report["queue_depth"]) == (True, "Online", 3)


async def test_callers_share_one_token_and_use_it_again() -> None:
    async with running() as both:
        await asyncio.gather(*(both.client.report_backend(ONLINE) for _ in range(20)))
        await both.client.report_backend(ONLINE)
        assert len(both.platform.tokens.asked) == 1


async def test_a_revoked_token_is_renewed_within_the_call() -> None:
    async with running() as both:
        await both.client.report_backend(ONLINE)
        both.platform.tokens.revoke_all()
        await both.client.report_backend(ONLINE)
        assert len(both.platform.tokens.asked) == 2


async def test_a_401_to_a_fresh_token_is_an_error_and_not_a_loop() -> None:
    async with running() as both:
        both.platform.jobs.faults.append(Fault("PATCH", FaultKind.STATUS, status=401, times=None))
        with pytest.raises(DeliveryError, match="401 to a fresh token"):
            await both.client.report_backend(ONLINE)
        assert len(both.platform.jobs.asked) == 2


async def test_a_token_is_renewed_before_it_expires() -> None:
    async with running() as both:
        both.platform.tokens.lifetime_seconds = 0
        await both.client.tokens.get()
        await both.client.tokens.get()
        assert len(both.platform.tokens.asked) == 2


async def test_a_token_service_that_is_down_is_left_alone_for_a_moment() -> None:
    async with running() as both:
        await both.platform.tokens.stop()
        for _ in range(5):
            with pytest.raises(DeliveryError):
                await both.client.report_backend(ONLINE)
        await both.platform.tokens.start()
        async with asyncio.timeout(5):
            while True:
                try:
                    await both.client.report_backend(ONLINE)
                except DeliveryError as error:
                    await asyncio.sleep(error.retry_after_seconds or 0.01)
                else:
                    break
        assert len(both.platform.tokens.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_an_upload_url_that_is_refused_needs_another(status: int) -> None:
    async with running() as both:
        slot = await both.client.upload_slot()
        both.platform.store.faults.append(Fault("PUT", FaultKind.STATUS, status=status))
        with pytest.raises(UploadRefused):
            await both.client.put_counts(slot, COUNTS)


@pytest.mark.parametrize("status", [409, 429, 500, 503])
async def test_other_trouble_with_an_upload_may_pass(status: int) -> None:
    async with running() as both:
        slot = await both.client.upload_slot()
        both.platform.store.faults.append(Fault("PUT", FaultKind.STATUS, status=status))
        with pytest.raises(DeliveryError) as caught:
            await both.client.put_counts(slot, COUNTS)
        assert not isinstance(caught.value, UploadRefused)
        await both.client.put_counts(slot, COUNTS)


async def test_an_expired_url_is_refused_by_the_store_itself() -> None:
    async with running() as both:
        both.platform.store.url_seconds = -1
        with pytest.raises(UploadRefused):
            await both.client.put_counts(await both.client.upload_slot(), COUNTS)


@pytest.mark.parametrize("kind", [FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER])
async def test_a_cut_connection_is_one_try_and_no_more(kind: FaultKind) -> None:
    """A client that repeats by itself would ask for two upload ids, or worse."""
    async with running() as both:
        both.platform.jobs.faults.append(Fault("POST", kind))
        with pytest.raises(DeliveryError):
            await both.client.upload_slot()
        assert len(both.platform.jobs.asked) == 1


async def test_a_host_that_hangs_is_given_up() -> None:
    async with running(request_timeout_seconds=0.2) as both:
        both.platform.jobs.faults.append(Fault("PATCH", FaultKind.DELAY, seconds=60))
        with pytest.raises(DeliveryError, match="timed out"):
            await both.client.report_backend(ONLINE)


@pytest.mark.parametrize(("asked", "seconds"), [("7", 7.0), ("99999", 3600.0), ("soon", None), ("", None)])
async def test_retry_after_is_read_and_bounded(asked: str, seconds: float | None) -> None:
    async with running() as both:
        busy = Fault("PATCH", FaultKind.STATUS, status=503, headers={"Retry-After": asked})
        both.platform.jobs.faults.append(busy)
        with pytest.raises(DeliveryError) as caught:
            await both.client.report_backend(ONLINE)
        assert caught.value.retry_after_seconds == seconds


async def test_retry_after_as_a_date() -> None:
    async with running() as both:
        past = {"Retry-After": "Sat, 21 Nov 2020 01:32:10 GMT"}
        both.platform.jobs.faults.append(Fault("PATCH", FaultKind.STATUS, status=503, headers=past))
        with pytest.raises(DeliveryError) as caught:
            await both.client.report_backend(ONLINE)
        assert caught.value.retry_after_seconds == 0.0


@pytest.mark.parametrize("body", ["<html>maintenance</html>", "[]", "{}", '{"upload_url": 5, "id": "x"}', "x" * 70_000])
async def test_an_answer_that_is_not_one_is_an_error_without_its_text(
    body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as both:

        async def odd(_: web.Request) -> web.Response:
            return web.Response(text=body, content_type="text/html")

        await both.platform.jobs.stop()
        monkeypatch.setattr(both.platform.jobs, "routes", lambda: [web.post("/v1/executions/upload", odd)])
        await both.platform.jobs.start()
        with pytest.raises(DeliveryError) as caught:
            await both.client.upload_slot()
        assert "maintenance" not in str(caught.value)
        assert len(str(caught.value)) < 200


async def test_a_job_the_server_does_not_know_counts_as_told(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as both:
        await both.client.report_failed(ExecutionId("never-heard-of"), "gone")
        assert len([record for record in caplog.records if "does not want" in record.message]) == 1


async def test_an_id_cannot_leave_its_place_in_the_path() -> None:
    async with running() as both:
        await both.client.report_failed(ExecutionId("../backends"), "x")
        assert both.platform.jobs.asked[-1].path == "/v1/executions/../backends"
        assert both.platform.jobs.backend_reports == []


async def test_errors_carry_no_presigned_url() -> None:
    async with running() as both:
        await both.client.tokens.get()
        slot = UploadSlot("up-1", "http://127.0.0.1:9/bucket?X-Amz-Signature=secret")
        with pytest.raises(DeliveryError) as caught:
            await both.client.put_counts(slot, COUNTS)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "http://jobs.example"}, "JOB_SERVER_URL"),
        ({"url": "jobs.example"}, "JOB_SERVER_URL"),
        ({"tensorauth_url": "ftp://auth.example"}, "TENSORAUTH_URL"),
    ],
)
def test_a_url_that_cannot_work_names_its_variable(changes: dict[str, str], words: str) -> None:
    good = JobServerSettings(url="https://jobs.example", tensorauth_url="https://auth.example")
    with pytest.raises(ConfigError, match=words):
        open_job_server(good.model_copy(update=changes), SIGNER)


def test_plain_http_can_be_allowed_by_name() -> None:
    settings = JobServerSettings(
        url="http://jobs.lan", tensorauth_url="http://jobs.lan", allow_http_hosts=("jobs.lan",)
    )
    open_job_server(settings, SIGNER)
