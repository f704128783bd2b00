"""Two real daemons on one Postgres: requests to either, and an owner that dies in the middle of its work."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from qcompute.local.dendrite import signed_headers
from qcompute.protocol import COLLECT_ONLY, FIRST_CURSOR, SYNAPSE_NAME, ExecutionStatus
from qcompute.units import ExecutionId
from tests.ledger.postgres_server import PASSWORD, empty_database, shared_server
from tests.machines import LANE, Machines, machines_on
from tests.network import Network, own_network
from tests.scene import until

JOBS = 100
TAKEOVER_SECONDS = 5.0
SLOW_VENDOR = {
    "QCOMPUTE_PROVIDERS__MOCK__LATENCY_SECONDS": "0.3",
    "QCOMPUTE_PROVIDERS__MOCK__RUN_SECONDS": "1",
}


@pytest.fixture
async def machines(tmp_path: Path) -> AsyncIterator[Machines]:
    with empty_database() as database:
        async with machines_on(tmp_path, shared_server(), database, **SLOW_VENDOR) as machines:
            yield machines


def judge(machines: Machines, ids: list[ExecutionId]) -> None:
    """Each job was paid once, ended well and is delivered with a result of its own."""
    submits = machines.submits()
    assert (len(submits), len(set(submits))) == (len(ids), len(ids))
    rows = {row.execution_id: row for row in machines.validator.delivered}
    assert {rows[name].status for name in ids} == {ExecutionStatus.COMPLETED}
    assert len({rows[name].upload_data_id for name in ids} & set(machines.platform.store.objects)) == len(ids)
    sql = "SELECT state, count(*) FROM jobs GROUP BY state"
    assert machines.server.run_sql(machines.database, sql) == [("closed", len(ids))]
    assert machines.server.run_sql(machines.database, "SELECT count(*) FROM receipts") == [(len(ids),)]


async def same_request_to(machines: Machines, names: list[str]) -> list[int]:
    """The HTTP status each machine answers to one signed request, brought to all of them at once."""
    validator = machines.validator
    headers = signed_headers(
        validator.signer, uuid="a" * 36, host="127.0.0.1", port=1, axon_hotkey=machines.miners[names[0]].signer.hotkey
    )
    body: dict[str, Any] = {"execution_id": COLLECT_ONLY, "input_data_url": "", "shots": 0, "configuration_data": {}}
    data = json.dumps(body | {"last_circuit": FIRST_CURSOR})

    async def post(name: str) -> int:
        url = f"http://127.0.0.1:{machines.miners[name].axon_port}/{SYNAPSE_NAME}"
        async with aiohttp.ClientSession() as session, session.post(url, data=data, headers=headers) as answer:
            return answer.status

    return await asyncio.gather(*map(post, names))


async def test_either_takes_requests_and_one_of_them_works(machines: Machines) -> None:
    await machines.add("one")
    await machines.add("two")
    ids = machines.add_jobs(20)
    await machines.hand_over(20, "one", "two")
    await machines.collected(ids, "two")
    judge(machines, ids)
    works_on = [(await machines.health(name))["works_on"] for name in ("one", "two")]
    assert {lane: sum(each[lane] for each in works_on) for lane in works_on[0]} == dict.fromkeys(works_on[0], 1)
    statuses = await same_request_to(machines, ["one", "two"])
    assert sorted(status == 200 for status in statuses) == [False, True], statuses
    for miner in machines.miners.values():
        assert await miner.stop() == 0
        assert PASSWORD not in miner.log.read_text()


async def test_both_keep_the_rate_of_a_validator_together(tmp_path: Path) -> None:
    """A burst of 40 and no more for a minute: each machine alone would let in 40, and half a second later another."""
    limits = {"QCOMPUTE_AXON__REQUESTS_PER_SECOND": "0.01", "QCOMPUTE_AXON__REQUEST_BURST": "40"}
    with empty_database() as database:
        async with machines_on(tmp_path, shared_server(), database, **limits) as machines:
            await machines.add("one")
            await machines.add("two")
            answers: list[int] = []
            for number in range(60):
                machines.visit_at(("one", "two")[number % 2])
                answers.append((await machines.validator.visit()).status)
                await asyncio.sleep(0.05)
            assert 40 <= answers.count(200) <= 52, answers
            assert set(answers) == {200, 429}


def _signal(number: signal.Signals, machines: Machines) -> None:
    process = machines.miners["owner"].process
    assert process is not None
    with closing(sqlite3.connect(machines.vendor_file, isolation_level=None, timeout=30)) as vendor:
        # The vendor is a file, and one who is stopped while he writes to it would keep everybody from it.
        vendor.execute("BEGIN IMMEDIATE")
        process.send_signal(number)
        vendor.execute("ROLLBACK")


async def _half_way(machines: Machines) -> list[ExecutionId]:
    """Many jobs in every state of the road, and an owner in the middle of them."""
    ids = machines.add_jobs(JOBS)
    await machines.hand_over(JOBS, "standby")
    await machines.until_submits(JOBS // 4)
    assert machines.owners() == {LANE: "owner", "@road": "owner"}
    return ids


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_standby_goes_on_where_the_owner_was_killed_or_stopped(
    machines: Machines, number: signal.Signals
) -> None:
    await machines.add("owner")
    await machines.until_owner("owner")
    await machines.add("standby")
    ids = await _half_way(machines)
    began = time.time()
    _signal(number, machines)
    assert await machines.takeover("standby", began) < TAKEOVER_SECONDS
    await machines.collected(ids, "standby")
    judge(machines, ids)
    if number is signal.SIGSTOP:
        await _goes_on(machines)
        judge(machines, ids)


async def _goes_on(machines: Machines) -> None:
    """Stopped in a paid call it was ended where it stood, by the timer; else it finds its lanes lost, and stands by.

    The timer does not wait for a stopped process to go on, so there may be none left to be told to: that failed in CI
    when the signal came in the middle of a paid call.
    """
    owner = machines.miners["owner"]
    assert owner.process is not None
    process = owner.process
    if process.returncode is None:
        process.send_signal(signal.SIGCONT)

    async def ended_or_knows() -> bool:
        return process.returncode is not None or "does not work on mock any more" in owner.last_lines(200)

    await until(ended_or_knows, seconds=30.0, what="the old owner to go on", facts=machines.facts)
    assert process.returncode in (None, -signal.SIGKILL)


async def test_an_owner_that_loses_its_sessions_keeps_its_work(machines: Machines) -> None:
    await machines.add("owner")
    await machines.until_owner("owner")
    await machines.add("standby")
    ids = await _half_way(machines)
    machines.server.run_sql(
        machines.database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    await machines.collected(ids, "standby")
    judge(machines, ids)
    assert machines.owners() == {LANE: "owner", "@road": "owner"}


async def test_a_standby_goes_on_where_the_owner_was_cut_off(machines: Machines) -> None:
    with own_network(*machines.ports) as network:
        owner = await machines.add("owner", network=network)
        await machines.until_owner("owner")
        await machines.add("standby")
        ids = await _half_way(machines)
        await _cut(machines, network, ids)
        await owner.kill()


async def _cut(machines: Machines, network: Network, ids: list[ExecutionId]) -> None:
    began = time.time()
    network.cut()
    assert await machines.takeover("standby", began) < TAKEOVER_SECONDS
    await machines.collected(ids, "standby")
    judge(machines, ids)


async def test_an_upgrade_of_one_machine_after_the_other_loses_nothing(machines: Machines) -> None:
    """Start the new one, stop the old one, twice; requests go on all the time."""
    ids = machines.add_jobs(JOBS)
    await machines.add("old-1")
    await machines.until_owner("old-1")
    await machines.add("old-2")
    await machines.hand_over(JOBS // 2, "old-1", "old-2")
    await machines.add("new-1")
    began = time.time()
    stopping = asyncio.create_task(machines.miners["old-1"].stop())
    await machines.hand_over(JOBS // 4, "old-2", "new-1")
    assert await stopping == 0

    async def taken_over() -> bool:
        return set(machines.owners().values()) <= {"old-2", "new-1"} and len(machines.owners()) == 2

    await until(taken_over, seconds=20.0, what="another owner", facts=machines.facts)
    assert time.time() - began < 60.0
    await machines.add("new-2")
    stopping = asyncio.create_task(machines.miners["old-2"].stop())
    await machines.hand_over(JOBS - JOBS // 2 - JOBS // 4, "new-1", "new-2")
    assert await stopping == 0
    await machines.collected(ids, "new-2")
    judge(machines, ids)
