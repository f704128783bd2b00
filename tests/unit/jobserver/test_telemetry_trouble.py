"""Telemetry when its service misbehaves, and at the end of the daemon."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from qcompute.jobserver import telemetry as module
from qcompute.jobserver.telemetry import MAX_POINTS, Telemetry
from qcompute.jobserver.token import TokenSource
from tests.unit.jobserver.platform import SIGNER
from tests.unit.jobserver.scripted import Scripted, in_turn, says, scripted

POST = "POST /v1/datapoints"
NOON = datetime(2026, 11, 21, 12, 0, 0, 5, tzinfo=UTC)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(module, "FLUSH_SECONDS", 0.3)


@asynccontextmanager
async def telling(*, uid: int | None = 7) -> AsyncGenerator[tuple[Scripted, Telemetry, asyncio.Task[None]], None]:
    async with scripted() as server:
        tokens = TokenSource(server.settings(), SIGNER)
        made = Telemetry(
            server.settings(),
            tokens,
            network="test",
            miner_hotkey=SIGNER.hotkey,
            miner_uid=lambda: uid,
            clock=lambda: NOON,
        )
        task = asyncio.create_task(made.run())
        try:
            yield server, made, task
        finally:
            task.cancel()
            await made.stop()
            await tokens.close()


class Counted:
    """Answers with a status and says when it was asked so many times."""

    def __init__(self, status: int = 200, **headers: str) -> None:
        self._answer = says(status, **headers)
        self.times = 0
        self._changed = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.times += 1
        self._changed.set()
        return await self._answer(request)

    async def reached(self, times: int) -> None:
        async with asyncio.timeout(5):
            while self.times < times:
                self._changed.clear()
                await self._changed.wait()


def numbers(server: Scripted) -> list[Any]:
    return [[point["numeric_value"] for point in heard.json()["datapoints"]] for heard in server.asked(POST)]


async def test_a_datapoint_looks_like_the_reference_miners() -> None:
    async with telling() as (server, made, _):
        server.answers[POST] = taken = Counted()
        attributes = {"old_status": "Pending", "new_status": "Queued"}
        made.point("miner_execution_status_change", text="job-1", attributes=attributes)
        attributes["new_status"] = "changed later"
        await taken.reached(1)
        (heard,) = server.asked(POST)
        assert heard.json() == {
            "datapoints": [
                {
                    "type": "miner_execution_status_change",
                    "timestamp": "2026-11-21T12:00:00.000005+00:00",
                    "miner_uid": 7,
                    "miner_hotkey": SIGNER.hotkey,
                    "string_value": "job-1",
                    "attributes": {"old_status": "Pending", "new_status": "Queued"},
                }
            ]
        }
        assert heard.headers["x-service-name"] == "bittensor.sn48.miner"
        assert heard.headers["x-network"] == "test"
        assert heard.headers["authorization"] == "Bearer token-1"


async def test_a_miner_that_is_not_registered_sends_no_uid() -> None:
    async with telling(uid=None) as (server, made, _):
        server.answers[POST] = taken = Counted()
        made.point("x", number=0)
        await taken.reached(1)
        assert "miner_uid" not in server.asked(POST)[0].json()["datapoints"][0]


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_a_batch_is_kept_until_it_is_taken(status: int) -> None:
    async with telling() as (server, made, _):
        taken = Counted()
        server.answers[POST] = in_turn(says(status), says(status), taken)
        for number in range(12):
            made.point("x", number=number)
        await taken.reached(2)
        first = list(range(10))
        assert numbers(server) == [first, first, first, [10, 11]]


async def test_a_401_brings_a_new_token() -> None:
    async with telling() as (server, made, _):
        taken = Counted()
        server.answers[POST] = in_turn(says(401), taken)
        made.point("x", number=1)
        await taken.reached(1)
        assert [heard.headers["authorization"] for heard in server.asked(POST)] == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_batch_nobody_will_ever_take_does_not_hold_up_the_others(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with telling() as (server, made, _):
        taken = Counted()
        server.answers[POST] = in_turn(says(status), says(status), taken)
        for number in range(21):
            made.point("x", number=number)
        await taken.reached(1)
        await made.stop()
        assert numbers(server) == [list(range(10)), list(range(10, 20)), [20]]
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 2
        assert "does not take our points" in lines[0]
        assert "20 points were dropped" in lines[1]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
async def test_a_number_that_json_cannot_say_is_left_out(number: float) -> None:
    async with telling() as (_, made, _):
        made.point("x", number=number)
        assert made.waiting == 0


async def test_the_service_may_ask_for_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.4)
    async with telling() as (server, made, _):
        taken = Counted()
        server.answers[POST] = in_turn(says(429, Retry_After="3600"), taken)
        began = time.monotonic()
        made.point("x", number=1)
        await taken.reached(1)
        assert time.monotonic() - began >= 0.4


async def test_between_two_posts_there_is_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.1)
    async with telling() as (server, made, _):
        server.answers[POST] = taken = Counted()
        began = time.monotonic()
        for number in range(30):
            made.point("x", number=number)
        await taken.reached(3)
        assert time.monotonic() - began >= 0.2


async def test_a_flood_costs_the_oldest_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with telling() as (server, made, _):
        server.answers[POST] = taken = Counted()
        for number in range(MAX_POINTS + 5):
            made.point("x", number=number)
        await taken.reached(MAX_POINTS // 10)
        await made.stop()
        assert [number for batch in numbers(server) for number in batch] == list(range(5, MAX_POINTS + 5))
        assert [record.getMessage() for record in caplog.records] == [
            "telemetry is sent again; 5 points were dropped meanwhile"
        ]


async def test_points_pushed_out_while_being_sent_cost_no_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with telling() as (server, made, _):
        come, go, taken = asyncio.Event(), asyncio.Event(), Counted()

        async def slow(_: web.Request) -> web.StreamResponse:
            come.set()
            await go.wait()
            return web.json_response({})

        server.answers[POST] = in_turn(slow, taken)
        for number in range(MAX_POINTS):
            made.point("x", number=number)
        async with asyncio.timeout(5):
            await come.wait()
        for number in range(MAX_POINTS, MAX_POINTS + 5):
            made.point("x", number=number)
        go.set()
        await taken.reached(MAX_POINTS // 10)
        await made.stop()
        assert [number for batch in numbers(server) for number in batch] == list(range(MAX_POINTS + 5))
        assert caplog.records == []


async def test_the_end_does_not_send_again_what_is_under_way() -> None:
    async with telling() as (server, made, _):
        come, go = asyncio.Event(), asyncio.Event()

        async def slow(_: web.Request) -> web.StreamResponse:
            come.set()
            await go.wait()
            return web.json_response({})

        server.answers[POST] = slow
        for number in range(12):
            made.point("x", number=number)
        async with asyncio.timeout(5):
            await come.wait()
            stopping = asyncio.create_task(made.stop())
            go.set()
            await stopping
        assert numbers(server) == [list(range(10)), [10, 11]]


async def test_a_service_that_hangs_delays_the_end_no_longer_than_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with telling() as (server, made, task):
        come = asyncio.Event()

        async def hanging(_: web.Request) -> web.StreamResponse:
            come.set()
            await asyncio.Event().wait()
            raise web.HTTPServiceUnavailable

        server.answers[POST] = hanging
        for number in range(12):
            made.point("x", number=number)
        async with asyncio.timeout(5):
            await come.wait()
            began = time.monotonic()
            await made.stop()
        assert time.monotonic() - began < 1.5
        made.point("x", number=13)
        assert made.waiting == 0
        assert [record.getMessage() for record in caplog.records] == ["telemetry ends; 12 points were never sent"]
        await asyncio.wait([task], timeout=0.1)
        assert not task.done()  # a side task that ends takes the daemon down


async def test_the_end_gives_up_at_the_first_failure() -> None:
    async with telling() as (server, made, task):
        task.cancel()
        await asyncio.wait([task])
        server.answers[POST] = down = Counted(503)
        for number in range(30):
            made.point("x", number=number)
        await made.stop()
        await made.stop()
        assert down.times == 1
