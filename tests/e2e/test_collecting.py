"""400 jobs finish while a validator collects twice a second: each is delivered, none before it is closed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from qcompute.miner.job import State
from tests.scene import running_scene

JOBS = 400


async def test_no_result_is_lost_between_two_visits(tmp_path: Path) -> None:
    """The reference loses 8 % of results that finish while a validator collects: its cursor has whole seconds."""
    settings = {"QCOMPUTE_PROVIDERS__MOCK__RUN_SECONDS": "3", "QCOMPUTE_MINER__PAGE_SIZE": "25"}
    async with running_scene(tmp_path, environment=settings) as scene:
        ids = scene.add_jobs(JOBS)
        uploaded_when_delivered: list[bool] = []
        enough = asyncio.Event()

        async def collect() -> None:
            # Never cancelled: the reference keeps its cursor before it takes the rows, and would skip the others.
            while not enough.is_set():
                answer = await scene.validator.visit()
                stored = scene.platform.store.objects
                uploaded_when_delivered.extend(row.upload_data_id in stored for row in answer.finished)
                await asyncio.sleep(0.5)

        collecting = asyncio.create_task(collect())
        await scene.hand_over(JOBS)
        await scene.until_in(State.CLOSED, JOBS, seconds=80)
        enough.set()
        await collecting
        await scene.collected(JOBS)
        rows = [row.execution_id for row in scene.validator.delivered]
        assert set(rows) == set(ids)
        assert len(rows) == len(set(rows)), "a cursor that moves exactly delivers nothing twice"
        assert all(uploaded_when_delivered), "nothing may be delivered before its result is in the store"
        assert len(scene.validator.successes) == JOBS
        assert len(scene.platform.store.puts) == JOBS
