"""The tests of what validators collect, and of the end of retention."""

# ruff: noqa: D102, PLR2004, S101 - these are tests: their names say what they show, in asserts about plain numbers

from __future__ import annotations

import asyncio
import re
from dataclasses import fields, replace
from datetime import timedelta

import pytest

from qcompute.ledger.contract import Intake, Ledger, Page
from qcompute.miner.job import Job, State, Verdict
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_fixtures import WAIT_SECONDS, LedgerFixtures
from qcompute.testing.ledger_records import (
    ALICE,
    BOB,
    START_OF_TIME,
    SetClock,
    accepted,
    brought_to,
    failed,
    full_job,
    new_job,
    nonce,
)
from qcompute.units import ExecutionId


async def _close_many(ledger: Ledger, names: list[str]) -> list[Job]:
    return [await brought_to(ledger, name, State.CLOSED) for name in names]


async def _collect(ledger: Ledger, cursor: str, limit: int) -> tuple[list[str], str]:
    """Every id behind a cursor, page by page, and the last cursor."""
    ids: list[str] = []
    while True:
        page = await ledger.finished_after(cursor, limit)
        assert len(page.jobs) <= limit
        if not page.jobs:
            assert page.cursor == cursor
            return ids, cursor
        ids += [job.execution_id for job in page.jobs]
        cursor = page.cursor


class CollectContract(LedgerFixtures):
    """What validators collect."""

    async def test_closing_numbers_jobs_and_says_when(self, ledger: Ledger, clock: SetClock) -> None:
        first = await brought_to(ledger, "a", State.CLOSED)
        clock.move(5)
        second = await brought_to(ledger, "b", State.CLOSED)
        assert (first.cursor_seq, first.closed_at) == (1, START_OF_TIME)
        assert (second.cursor_seq, second.closed_at) == (2, START_OF_TIME + timedelta(seconds=5))
        assert await ledger.get(second.execution_id) == second

    async def test_numbers_and_times_given_by_the_caller_do_not_count(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        forged = {"cursor_seq": 77, "closed_at": START_OF_TIME - timedelta(days=9)}
        settled = await ledger.save(job, replace(job, state=State.SETTLED, verdict=Verdict.FAILED, **forged))
        assert (settled.cursor_seq, settled.closed_at) == (None, None)
        closed = await ledger.save(settled, replace(settled, state=State.CLOSED, **forged))
        assert (closed.cursor_seq, closed.closed_at) == (1, START_OF_TIME)

    async def test_concurrent_closings_are_numbered_without_gaps_in_the_order_collected(self, ledger: Ledger) -> None:
        settled = [await brought_to(ledger, f"j{number}", State.SETTLED) for number in range(40)]
        closed = await asyncio.gather(*(ledger.save(job, replace(job, state=State.CLOSED)) for job in settled))
        by_number = sorted(closed, key=lambda job: job.cursor_seq or 0)
        assert [job.cursor_seq for job in by_number] == list(range(1, 41))
        times = [job.closed_at for job in by_number]
        assert times == sorted(set(times), key=lambda time: time or START_OF_TIME)
        page = await ledger.finished_after(FIRST_CURSOR, 100)
        assert [job.execution_id for job in page.jobs] == [job.execution_id for job in by_number]

    async def test_a_finished_job_carries_what_validators_are_told(self, ledger: Ledger) -> None:
        job = await brought_to(ledger, "a", State.WAITING)
        full = replace(full_job(job), parent_id=None)
        settled = await ledger.save(job, replace(full, state=State.SETTLED, verdict=Verdict.REFUSED))
        closed = await ledger.save(settled, replace(settled, state=State.CLOSED))
        (finished,) = (await ledger.finished_after(FIRST_CURSOR, 10)).jobs
        assert all(getattr(finished, field.name) == getattr(closed, field.name) for field in fields(finished))

    async def test_only_closed_jobs_are_finished_and_whoever_sent_them(self, ledger: Ledger) -> None:
        for state in State:
            await brought_to(ledger, f"in-{state}", state)
        await brought_to(ledger, "bobs", State.CLOSED, validator=BOB)
        assert await _collect(ledger, FIRST_CURSOR, 10) == (
            ["in-closed", "bobs"],
            (await ledger.finished_after("", 10)).cursor,
        )

    @pytest.mark.parametrize(
        "cursor",
        [
            FIRST_CURSOR,
            "",
            "garbage",
            "v1:42",
            "12.5",
            "1795224720636113030",
            "2026-13-45 99:99:99",
            "\0",
            "|||",
            "٢٠٢٦-١١-٢١ ٠٢:٤٦:٥١",  # noqa: RUF001 - digits, but not those of a time
            "2026-11-21",
        ],
    )
    async def test_text_without_a_leading_time_starts_from_the_beginning(self, ledger: Ledger, cursor: str) -> None:
        assert await ledger.finished_after(cursor, 10) == Page([], cursor)
        await _close_many(ledger, ["a", "b"])
        assert (await _collect(ledger, cursor, 1))[0] == ["a", "b"]

    async def test_the_cursor_begins_with_the_time_and_is_no_number(self, ledger: Ledger, clock: SetClock) -> None:
        clock.move(0.25)
        await _close_many(ledger, ["a", "b"])
        cursor = (await ledger.finished_after(FIRST_CURSOR, 10)).cursor
        assert re.fullmatch(r"2026-11-21 02:46:51\.250001\|[0-9a-z]+\|2", cursor)
        with pytest.raises(ValueError, match="float"):
            float(cursor)

    async def test_pages_follow_one_another_exactly(self, ledger: Ledger) -> None:
        names = [f"j{number:02}" for number in range(23)]
        await _close_many(ledger, names)
        assert (await _collect(ledger, FIRST_CURSOR, 7))[0] == names

    async def test_pages_never_exceed_their_limit(self, ledger: Ledger) -> None:
        await _close_many(ledger, ["a", "b", "c"])
        assert [len((await ledger.finished_after("", limit)).jobs) for limit in (1, 2, 3, 4)] == [1, 2, 3, 3]
        assert await ledger.finished_after(FIRST_CURSOR, 0) == Page([], FIRST_CURSOR)
        assert await ledger.finished_after(FIRST_CURSOR, -1) == Page([], FIRST_CURSOR)

    async def test_a_cursor_with_nothing_behind_it_stays(self, ledger: Ledger, clock: SetClock) -> None:
        await _close_many(ledger, ["a"])
        cursor = (await ledger.finished_after(FIRST_CURSOR, 10)).cursor
        clock.move(10)
        for current in (cursor, "2026-11-21 02:46:55"):
            assert await ledger.finished_after(current, 10) == Page([], current)

    async def test_two_results_in_one_second_are_both_delivered(self, ledger: Ledger) -> None:
        """The reference's cursor counts whole seconds and loses the second of them."""
        await _close_many(ledger, ["a"])
        first = await ledger.finished_after(FIRST_CURSOR, 10)
        await _close_many(ledger, ["b"])
        second = await ledger.finished_after(first.cursor, 10)
        assert [job.execution_id for job in first.jobs + second.jobs] == ["a", "b"]

    async def test_a_cursor_of_the_reference_is_read_from_the_start_of_its_second(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        clock.move(-0.000_001)
        await _close_many(ledger, ["before"])
        clock.now = START_OF_TIME
        await _close_many(ledger, ["start"])
        clock.move(0.9)
        await _close_many(ledger, ["same second"])
        clock.move(5)
        await _close_many(ledger, ["later"])
        for cursor in (
            "2026-11-21 02:46:51",
            "2026-11-21T02:46:51",
            "2026-11-21 02:46:51.999999",
            " 2026-11-21 02:46:51",
        ):
            assert (await _collect(ledger, cursor, 2))[0] == ["start", "same second", "later"]

    async def test_a_cursor_of_another_ledger_is_read_by_its_time(self, ledger: Ledger, clock: SetClock) -> None:
        await _close_many(ledger, ["a"])
        clock.move(60)
        await _close_many(ledger, ["b"])
        other = "2026-11-21 02:47:51.700000|0123456789ab|1"
        assert (await _collect(ledger, other, 10))[0] == ["b"]

    async def test_a_foreign_cursor_from_the_future_loses_nothing(self, ledger: Ledger, clock: SetClock) -> None:
        """Another machine's clock was wrong; ours would otherwise deliver nothing until it gets there."""
        await _close_many(ledger, ["a"])
        for cursor in ("2099-01-01 00:00:00", "2099-01-01 00:00:00.000000|0123456789ab|9"):
            assert (await _collect(ledger, cursor, 10))[0] == ["a"]
        clock.move(3600)
        await _close_many(ledger, ["b"])
        assert (await _collect(ledger, "2099-01-01 00:00:00", 10))[0] == ["a", "b"]

    async def test_a_cursor_ahead_of_a_ledger_from_a_backup_is_read_by_its_time(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """The ledger was brought back from a backup: numbers a validator has seen are given again to other jobs."""
        await _close_many(ledger, ["a", "b"])
        ledger_id = (await ledger.finished_after("", 10)).cursor.split("|")[1]
        clock.move(60)
        await _close_many(ledger, ["c", "d", "e"])
        seen_before_the_restore = f"2026-11-21 02:47:21.000000|{ledger_id}|4"
        assert (await _collect(ledger, seen_before_the_restore, 10))[0] == ["c", "d", "e"]

    async def test_a_cursor_of_ours_that_was_tampered_with_is_harmless(self, ledger: Ledger) -> None:
        await _close_many(ledger, ["a"])
        ledger_id = (await ledger.finished_after("", 10)).cursor.split("|")[1]
        for cursor in (
            f"2026-02-31 00:00:00.000000|{ledger_id}|1",
            f"2026-11-21 02:46:51.000000|{ledger_id}|{'9' * 200}",
            f"2026-11-21 02:46:51.000000|{ledger_id}|-1",
            f"2026-11-21 02:46:51.000000|{ledger_id}|0",
        ):
            assert (await _collect(ledger, cursor, 10))[0] == ["a"]

    async def test_a_clock_stepping_back_neither_loses_nor_reorders(self, ledger: Ledger, clock: SetClock) -> None:
        await _close_many(ledger, ["a"])
        seen = (await ledger.finished_after(FIRST_CURSOR, 10)).cursor
        clock.move(-3600)
        await _close_many(ledger, ["b", "c"])
        page = await ledger.finished_after(seen, 10)
        assert [job.execution_id for job in page.jobs] == ["b", "c"]
        assert page.jobs[0].closed_at < page.jobs[1].closed_at
        assert seen < page.cursor
        assert (await _collect(ledger, "2026-11-21 02:46:51", 10))[0] == ["a", "b", "c"]

    async def test_a_foreign_cursor_of_a_time_our_jobs_know_is_read_by_it_though_the_clock_stepped_back(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        await _close_many(ledger, ["a"])
        clock.move(10)
        await _close_many(ledger, ["b"])
        clock.move(-3600)
        assert (await _collect(ledger, "2026-11-21 02:47:01", 10))[0] == ["b"]

    async def test_nothing_is_lost_while_jobs_keep_closing(self, ledger: Ledger) -> None:
        settled = [await brought_to(ledger, f"j{number:03}", State.SETTLED) for number in range(60)]
        seen: list[str] = []

        async def visit() -> None:
            cursor = FIRST_CURSOR
            while len(seen) < len(settled):
                page = await ledger.finished_after(cursor, 4)
                seen.extend(job.execution_id for job in page.jobs)
                cursor = page.cursor
                await asyncio.sleep(0)

        async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
            group.create_task(visit())
            for job in settled:
                group.create_task(ledger.save(job, replace(job, state=State.CLOSED)))
                await asyncio.sleep(0)
        assert sorted(seen) == sorted(job.execution_id for job in settled)


class PurgeContract(LedgerFixtures):
    """The end of retention."""

    async def test_jobs_closed_before_a_time_are_removed_with_their_parts(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        job = await accepted(ledger, "old")
        settled = await ledger.save(
            job,
            replace(job, state=State.SETTLED, verdict=Verdict.FAILED),
            circuit="c",
            outcome=failed(),
            receipt="r",
        )
        await ledger.save(settled, replace(settled, state=State.CLOSED))
        clock.move(10)
        kept = await brought_to(ledger, "kept", State.CLOSED)
        assert await ledger.purge(clock.now) == 1
        assert await ledger.purge(clock.now) == 0
        assert await ledger.get(job.execution_id) is None
        assert await ledger.circuit(job.execution_id) is None
        assert await ledger.outcome(job.execution_id) is None
        assert await ledger.receipt(job.execution_id) is None
        assert await ledger.get(kept.execution_id) == kept
        assert (await ledger.count_by_state())[State.CLOSED] == 1

    async def test_jobs_that_are_not_closed_stay_however_old(self, ledger: Ledger, clock: SetClock) -> None:
        for state in State:
            await brought_to(ledger, f"in-{state}", state)
        clock.move(365 * 86400)
        assert await ledger.purge(clock.now) == 1
        assert await ledger.count_by_state() == dict.fromkeys(State, 1) | {State.CLOSED: 0}
        assert await ledger.open_by_validator() == {ALICE: len(State) - 1}

    async def test_a_number_is_not_given_again(self, ledger: Ledger, clock: SetClock) -> None:
        await _close_many(ledger, ["a", "b"])
        cursor = (await ledger.finished_after("", 10)).cursor
        clock.move(10)
        await ledger.purge(clock.now)
        closed = await brought_to(ledger, "c", State.CLOSED)
        assert closed.cursor_seq == 3
        assert (await _collect(ledger, cursor, 10))[0] == ["c"]
        assert (await _collect(ledger, FIRST_CURSOR, 10))[0] == ["c"]

    async def test_a_purged_job_may_come_again(self, ledger: Ledger, clock: SetClock) -> None:
        await _close_many(ledger, ["a"])
        clock.move(10)
        await ledger.purge(clock.now)
        assert await ledger.accept(new_job("a"), nonce(7)) is Intake.ACCEPTED
        assert await ledger.circuit(ExecutionId("a")) is None
