"""Telemetry never waits, never raises, and costs the oldest points first."""

from __future__ import annotations

import asyncio

import pytest

from qcompute.jobserver import telemetry as module
from qcompute.jobserver.telemetry import MAX_POINTS, Telemetry
from tests.unit.jobserver.platform import SIGNER, Both, running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.05)


def telemetry(both: Both) -> Telemetry:
    return Telemetry(both.settings, both.client.tokens, network="test", miner_hotkey=SIGNER.hotkey, miner_uid=lambda: 7)


async def sent(both: Both, count: int) -> None:
    async with asyncio.timeout(5):
        while len(both.platform.telemetry.points) < count:  # noqa: ASYNC110 - the server is not ours to signal
            await asyncio.sleep(0.01)


async def test_points_arrive_as_the_reference_sends_them() -> None:
    async with running() as both:
        made = telemetry(both)
        task = asyncio.create_task(made.run())
        made.point("miner_execution_received", number=1)
        made.point("miner_execution_status_change", text="job-1", attributes={"new_status": "Queued"})
        await sent(both, 2)
        first, second = both.platform.telemetry.points
        assert (first.type, first.numeric_value, first.miner_uid) == ("miner_execution_received", 1.0, 7)
        assert (second.string_value, second.attributes) == ("job-1", {"new_status": "Queued"})
        assert second.miner_hotkey == SIGNER.hotkey
        task.cancel()
        await made.stop()


async def test_many_points_go_ten_at_a_time_and_in_order() -> None:
    async with running() as both:
        made = telemetry(both)
        for number in range(35):
            made.point("x", number=number)
        task = asyncio.create_task(made.run())
        await sent(both, 35)
        assert [point.numeric_value for point in both.platform.telemetry.points] == list(range(35))
        assert len(both.platform.telemetry.asked) == 4
        task.cancel()
        await made.stop()


async def test_an_outage_costs_the_oldest_and_two_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with running() as both:
        await both.platform.telemetry.stop()
        made = telemetry(both)
        task = asyncio.create_task(made.run())
        for number in range(MAX_POINTS + 30):
            made.point("x", number=number)
        assert made.waiting == MAX_POINTS
        async with asyncio.timeout(5):
            while "cannot be sent" not in caplog.text:  # noqa: ASYNC110 - a log line is no event
                await asyncio.sleep(0.01)
        await both.platform.telemetry.start()
        await sent(both, 20)
        assert both.platform.telemetry.points[0].numeric_value == 30
        lines = [record.message for record in caplog.records if record.name.endswith("telemetry")]
        assert len(lines) == 2
        assert "30 points were dropped" in lines[1]
        task.cancel()
        await made.stop()


async def test_what_waits_at_the_end_is_sent() -> None:
    async with running() as both:
        made = telemetry(both)
        made.point("x", number=1)
        await made.stop()
        assert len(both.platform.telemetry.points) == 1


async def test_without_a_url_there_is_no_telemetry() -> None:
    async with running(metrics_api_url="") as both:
        made = telemetry(both)
        made.point("x", number=1)
        assert made.waiting == 0
        await made.stop()
