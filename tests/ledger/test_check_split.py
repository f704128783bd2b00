"""`qcompute ledger check` knows jobs that were split: their parts, and what is wrong with one that is left over."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from qcompute.ledger.check import check_ledger
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.job import Job, State
from tests.unit.miner.scripted import BELL
from tests.unit.miner.test_split import SPLIT, Nodes


class OnDisk(Nodes):
    """The road of a job that is split, on a ledger that can be looked at from outside."""

    def __init__(self, file: Path) -> None:
        super().__init__(ledger=lambda clock: SqliteLedger(LedgerSettings(path=file), clock))
        self.file = file

    @override
    async def ready(self, name: str = "job-1", **configuration: Any) -> Job:
        job = await self.job(name, **configuration)
        sha256 = hashlib.sha256(BELL.encode()).hexdigest()
        after = replace(job, state=State.READY, circuit_sha256=sha256, due_at=self.clock())
        return await self.road.save(job, after, circuit=BELL)

    def problems(self) -> list[str]:
        return check_ledger(self.file, now=self.clock()).problems

    def change(self, statement: str) -> None:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(statement)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[OnDisk]:
    nodes = OnDisk(tmp_path / "ledger.sqlite3")
    yield nodes
    await nodes.close()


async def test_a_split_job_is_sound_all_the_way(nodes: OnDisk) -> None:
    """Parts have no circuit of their own: the check called every part that was to be submitted damaged."""
    await nodes.routed(split=SPLIT)
    assert nodes.problems() == []
    await nodes.submit()
    assert nodes.problems() == []
    await nodes.poll()
    assert nodes.problems() == []
    await nodes.deliver()
    assert (await nodes.look()).state is State.SETTLED
    assert nodes.problems() == []
    await nodes.deliver()
    assert (await nodes.row()).state is State.CLOSED
    assert nodes.problems() == []


async def test_a_part_whose_whole_is_gone_is_named(nodes: OnDisk) -> None:
    await nodes.routed(split=SPLIT)
    await nodes.submit()
    nodes.change("DELETE FROM jobs WHERE execution_id = 'job-1'")
    assert nodes.problems() == [f"job job-1~{number}: the job job-1 it is a part of is gone" for number in ("00", "01")]


async def test_a_whole_without_parts_and_a_part_of_another_circuit_are_named(nodes: OnDisk) -> None:
    await nodes.routed(split=SPLIT)
    nodes.change("UPDATE jobs SET circuit_sha256 = 'abcdef' WHERE execution_id = 'job-1~00'")
    assert nodes.problems() == ["job job-1~00: its circuit is not the one that was downloaded"]
    nodes.change("DELETE FROM jobs WHERE parent_id = 'job-1'")
    assert nodes.problems() == ["job job-1: it waits for its parts and has none"]
