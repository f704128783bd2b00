"""Budgets of the real daemon: over a kill, over a restart, as the job server, a validator and the operator see them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from qcompute.miner.job import State
from qcompute.protocol import ExecutionStatus
from tests.scene import Scene, running_scene, until_true

SHOTS = 50
JOBS = 12
ROOM_FOR = 5
BUDGET = {
    "QCOMPUTE_BUDGET__PER_DAY": "0.40",
    "QCOMPUTE_PROVIDERS__MOCK__PRICE_PER_TASK": "0.03",
    "QCOMPUTE_PROVIDERS__MOCK__PRICE_PER_SHOT": "0.001",
}
"""Each job costs 0.08 USD."""


async def health(scene: Scene) -> dict[str, Any]:
    url = f"{scene.miner.operator_url}/health"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        document: dict[str, Any] = await response.json()
        return document


async def brought(scene: Scene, count: int) -> tuple[int, list[str]]:
    """How many of so many new jobs were taken, and what the others' users were told."""
    scene.add_jobs(count, SHOTS)
    answers = [await scene.validator.visit() for _ in range(count)]
    refusals = [answer.error_message or "" for answer in answers if not answer.success]
    return count - len(refusals), refusals


async def test_a_days_budget_is_not_exceeded_by_a_burst_nor_after_a_kill(tmp_path: Path) -> None:
    """Twelve jobs come at once, and there is money for five."""
    async with running_scene(tmp_path, environment=BUDGET | {"QCOMPUTE_PROVIDERS__MOCK__RUN_SECONDS": "3"}) as scene:
        taken, refusals = await brought(scene, JOBS)
        assert taken >= ROOM_FOR
        assert all("budget of the day" in refusal for refusal in refusals)
        await until_true(lambda: len(scene.vendor_submits()) == ROOM_FOR, what="five submits")
        await until_true(
            lambda: not scene.platform.jobs.backend_reports[-1]["accepting_jobs"], what="the job server knows"
        )
        await scene.miner.kill()
        await scene.restart()
        (more, told) = await brought(scene, 1)
        assert (more, len(told)) == (0, 1)
        assert "has no room until" in told[0]
        await scene.collected(ROOM_FOR)
        assert len(scene.vendor_submits()) == ROOM_FOR
        (budget,) = (await health(scene))["budgets"]
        assert budget["periods"]["day"] == {"limit": "0.40", "committed": "0.400"}
        jobs = await scene.jobs_in()
        assert jobs[State.READY] + jobs[State.SUBMITTING] == taken - ROOM_FOR
        assert scene.miner.log.read_text().count("budget_alert") == 2, "once for each start with the budget used up"


async def test_a_dry_run_pays_nothing_and_says_so(tmp_path: Path) -> None:
    async with running_scene(tmp_path, environment={"QCOMPUTE_MINER__DRY_RUN": "true"}) as scene:
        await brought(scene, 2)
        await scene.collected(2)
        assert {row.status for row in scene.validator.delivered} == {ExecutionStatus.FAILED}
        assert all("dry run" in (row.errorMessage or "") for row in scene.validator.delivered)
        assert scene.vendor_submits() == []
        assert (await health(scene))["dry_run"] is True
