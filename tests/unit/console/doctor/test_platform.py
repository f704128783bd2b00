"""What the doctor says of the platform: real servers, a refused hotkey, a clock that is off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from qcompute.chain.keys import signer_from_uri
from qcompute.console.doctor import platform
from qcompute.console.doctor.findings import Level
from qcompute.jobserver.settings import JobServerSettings
from qcompute.local.platform import LocalPlatform
from qcompute.local.service import Fault, FaultKind
from tests.unit.console.doctor.servers import answering

SIGNER = signer_from_uri("//doctor")


def urls(url: str) -> JobServerSettings:
    return JobServerSettings(url=url, tensorauth_url=url)


async def test_a_platform_that_works() -> None:
    local = LocalPlatform()
    await local.start()
    try:
        settings = JobServerSettings(url=local.jobs.url, tensorauth_url=local.tokens.url)
        server, ahead = await platform.job_server(settings)
        token = await platform.token_service(settings, SIGNER)
    finally:
        await local.stop()
    assert (server.level, token.level) == (Level.OK, Level.OK)
    assert platform.clock(ahead).level is Level.OK


async def test_a_hotkey_the_platform_does_not_know() -> None:
    local = LocalPlatform()
    await local.start()
    try:
        local.tokens.faults.append(Fault("GET /token", FaultKind.STATUS, status=403))
        found = await platform.token_service(urls(local.tokens.url), SIGNER)
    finally:
        await local.stop()
    assert (found.level, "register the hotkey" in found.fix) == (Level.FAILED, True)


async def test_nobody_answers(caplog: pytest.LogCaptureFixture) -> None:
    """A line of the daemon's log, "deliveries wait", stood among the doctor's."""
    server, ahead = await platform.job_server(urls("http://127.0.0.1:9"))
    token = await platform.token_service(urls("http://127.0.0.1:9"), SIGNER)
    assert (server.level, token.level, ahead) == (Level.FAILED, Level.FAILED, None)
    assert "JOB_SERVER_URL" in server.fix
    assert "TENSORAUTH_URL" in token.fix
    assert platform.clock(ahead).level is Level.UNKNOWN
    assert caplog.text == ""


async def test_urls_that_are_none() -> None:
    wrong = urls("https://jobs.example").model_copy(update={"url": "ftp://nowhere", "tensorauth_url": "ftp://nowhere"})
    server, _ = await platform.job_server(wrong)
    token = await platform.token_service(wrong, SIGNER)
    assert server.words.startswith("JOB_SERVER_URL must be")
    assert token.words.startswith("TENSORAUTH_URL must be")


async def test_without_a_wallet_the_token_service_is_not_asked() -> None:
    assert (await platform.token_service(urls("http://127.0.0.1:9"), None)).level is Level.UNKNOWN


@pytest.mark.parametrize(
    ("minutes", "level"), [(0, Level.OK), (5, Level.FAILED), (-5, Level.FAILED)], ids=["right", "behind", "ahead"]
)
async def test_our_clock_beside_the_servers(minutes: int, level: Level) -> None:
    there = datetime.now(UTC) + timedelta(minutes=minutes)
    async with answering({}, {"Date": format_datetime(there, usegmt=True)}) as port:
        _, ahead = await platform.job_server(urls(f"http://127.0.0.1:{port}"))
    found = platform.clock(ahead)
    assert found.level is level
    if minutes:
        assert found.words.startswith(f"300 s {'behind' if minutes > 0 else 'ahead of'} the job server")


def test_some_seconds_are_a_warning() -> None:
    assert platform.clock(-6.0).level is Level.WARNING


async def test_a_date_nobody_can_read() -> None:
    async with answering({}, {"Date": "yesterday"}) as port:
        assert (await platform.job_server(urls(f"http://127.0.0.1:{port}")))[1] is None
