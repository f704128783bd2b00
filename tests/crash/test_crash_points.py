"""Killed at any point the miner pays once and delivers: a sample of what ``python -m tests.crash`` runs in full."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from qcompute.testing.crash_points import CrashPoint, Journal, When
from tests.crash.__main__ import AT_ONCE
from tests.crash.lives import Store
from tests.crash.matrix import Case, Verdict, run
from tests.crash.points import EXPECTED, pairs, singles
from tests.crash.stories import PACK, STORIES

SAMPLE = {
    "on its way in": (
        "road accept:before#1",
        "road accept:after#6",
        "road save accepted>settled:after#1",
    ),
    "the paid call": (
        "road submit:before#1",
        "road submit:after#1",
        "road save submitting>waiting:before#4",
    ),
    "its result": (
        "road receipt:after#1",
        "late cancel:after#1",
        "held save submitting>held:after#1",
    ),
    "on its way out": (
        "road POST executions/upload:after#1",
        "road PUT upload:after#1",
        "road PATCH executions:after#3",
    ),
    "other vendors": (
        "road/client_id submit:after#1",
        "road/tag submit:before#1",
        "road/none submit:after#1",
    ),
    "a job in parts": (
        "split save ready>waiting:after#1",
        "split save submitting>submitting mark:after#1",
        "split submit:after#2",
        "split save waiting>settled:after#1",
    ),
    "jobs in one submission": (
        "pack save submitting>submitting mark:after#2",
        "pack submit:after#1",
        "pack/tag submit:after#1",
    ),
    "twice": (
        "road submit:after#1 + find:after#1",
        "road/tag submit:before#1 + save submitting>submitting unmark:after#1",
        "road PUT upload:after#1 + PUT upload:after#1",
        "split submit:after#2 + submit:after#1",
    ),
}

ON_POSTGRES = {
    "the road": (
        "road accept:before#1",
        "road save ready>submitting:after#1",
        "road PUT upload:after#1",
    ),
    "the paid call": (
        "road submit:before#1",
        "road submit:after#1",
        "road/client_id submit:after#1",
    ),
    "twice": (
        "road submit:after#1 + find:after#1",
        "road/tag submit:before#1 + save submitting>submitting unmark:after#1",
    ),
}
"""Where the next life must first outwait the lease of the one before."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the compiler answered, for all cases."""
    return tmp_path_factory.mktemp("compiled") / "compiled.json"


async def run_all(cases: Sequence[Case], compiled: Path, store: Store = Store.SQLITE) -> list[Verdict]:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case) -> Verdict:
        async with places:
            return await run(case, compiled, store)

    return await asyncio.gather(*(one(case) for case in cases))


async def test_every_expected_point_is_met_by_a_run_without_a_kill(compiled: Path) -> None:
    """Else a point could vanish from the matrix with the seam it was laid around, and nobody would notice."""
    stories = [STORIES[name] for name in EXPECTED]
    verdicts = await run_all([Case(story, ()) for story in stories], compiled)
    assert [verdict.wrong for verdict in verdicts] == [[]] * len(stories)
    for verdict in verdicts:
        met, names = verdict.journals[0].often(), EXPECTED[verdict.case.story.name]
        assert [name for name in names if not met[name, When.BEFORE] or not met[name, When.AFTER]] == []
        if verdict.case.story is PACK:
            assert met["submit", When.AFTER] < sum(job.reaches_vendor for job in PACK.jobs), "nothing was packed"


@pytest.mark.parametrize("part", SAMPLE)
async def test_killed_there_each_job_is_paid_once_and_delivered(part: str, compiled: Path) -> None:
    await judged([Case.parse(name) for name in SAMPLE[part]], compiled, Store.SQLITE)


@pytest.mark.parametrize("part", ON_POSTGRES)
async def test_killed_there_with_its_ledger_on_postgres_too(part: str, compiled: Path) -> None:
    await judged([Case.parse(name) for name in ON_POSTGRES[part]], compiled, Store.POSTGRES)


async def judged(cases: Sequence[Case], compiled: Path, store: Store) -> None:
    verdicts = await run_all(cases, compiled, store)
    assert [f"{verdict.case.name}: {verdict.outcome}" for verdict in verdicts if not verdict.ok] == []
    assert [verdict.killed for verdict in verdicts] == [len(case.fatal) for case in cases], "every kill must be met"


def test_the_sample_is_of_the_matrix() -> None:
    met = {story: {(name, when): 6 for name in names for when in When} for story, names in EXPECTED.items()}
    of_matrix = {case.name.partition("#")[0] for case in (*singles(met), *pairs())}
    sampled = [name for sample in (SAMPLE, ON_POSTGRES) for names in sample.values() for name in names]
    assert {name.partition("#")[0] for name in sampled} <= of_matrix


def test_the_matrix_has_no_case_twice() -> None:
    names = [case.name for case in (*singles({story: {} for story in EXPECTED}), *pairs())]
    assert len(set(names)) == len(names)
    assert [Case.parse(name).name for name in names] == names


def test_a_point_is_read_as_it_is_written() -> None:
    point = CrashPoint("save accepted>ready", When.AFTER, 12)
    assert str(point) == "save accepted>ready:after#12"
    assert CrashPoint.parse(str(point)) == point
    for text in ("submit", "submit:during#1", "submit:before#0", ":before#1"):
        with pytest.raises(ValueError, match="not a crash point"):
            CrashPoint.parse(text)


def test_the_process_is_killed_at_the_fatal_point_and_at_no_other(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    code = f"""
from pathlib import Path
from qcompute.testing.crash_points import CrashPoint, CrashPoints
points = CrashPoints(Path({str(journal)!r}), CrashPoint.parse("b:after#2"))
for _ in range(3):
    with points.around("a", "b"):
        pass
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603 - our own interpreter
    assert done.returncode == -signal.SIGKILL
    read = Journal.read(journal)
    assert read.killed_at == CrashPoint("b", When.AFTER, 2)
    assert read.passed[-1] == read.killed_at
    assert read.often() == {(name, when): 2 for name in "ab" for when in When}
    assert Journal.read(tmp_path / "never") == Journal([], None)
