from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from itertools import chain

import pytest

from qcompute.errors import Bug, StoreError
from qcompute.ledger.worker import Done, Worker

WAIT_SECONDS = 20


class Recorder:
    """Answers each task with its double; what it should fail on is told in advance."""

    def __init__(self, fails_on: Callable[[Sequence[int]], Exception | None] = lambda _: None) -> None:
        self._fails_on = fails_on
        self.batches: list[list[int]] = []
        self.closed = 0
        self.gate = threading.Event()
        self.gate.set()
        self.told: list[int] = []

    def open(self) -> None:
        pass

    def work(self, tasks: Sequence[int]) -> Done:
        self.gate.wait(WAIT_SECONDS)
        self.batches.append(list(tasks))
        error = self._fails_on(tasks)
        if error is not None:
            raise error
        return Done([2 * task for task in tasks], lambda: self.told.extend(tasks))

    def close(self) -> None:
        self.closed += 1


def started(recorder: Recorder, *, max_pending: int = 100, batch_limit: int = 10) -> Worker[int]:
    worker: Worker[int] = Worker("recorder", recorder, max_pending=max_pending, batch_limit=batch_limit)
    worker.start()
    return worker


async def test_tasks_of_one_turn_of_the_loop_are_one_batch() -> None:
    recorder = Recorder()
    worker = started(recorder)
    assert await asyncio.gather(*(worker.do(task) for task in range(5))) == [0, 2, 4, 6, 8]
    assert recorder.batches == [[0, 1, 2, 3, 4]]
    await worker.stop()
    assert recorder.closed == 1


async def test_what_gathers_while_a_batch_runs_is_the_next_one_up_to_the_limit() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    worker = started(recorder, batch_limit=3)
    first = asyncio.create_task(worker.do(0))
    await asyncio.sleep(0)
    rest = [asyncio.create_task(worker.do(task)) for task in range(1, 6)]
    await asyncio.sleep(0)
    recorder.gate.set()
    assert await asyncio.gather(first, *rest) == [0, 2, 4, 6, 8, 10]
    assert all(len(batch) <= 3 for batch in recorder.batches)
    assert list(chain(*recorder.batches)) == [0, 1, 2, 3, 4, 5]
    await worker.stop()


async def test_a_failed_batch_is_done_again_task_by_task() -> None:
    recorder = Recorder(lambda tasks: StoreError("three") if 3 in tasks else None)
    worker = started(recorder)
    answers = await asyncio.gather(*(worker.do(task) for task in range(5)), return_exceptions=True)
    assert isinstance(answers.pop(3), StoreError)
    assert answers == [0, 2, 4, 8]
    assert recorder.batches == [[0, 1, 2, 3, 4], [0], [1], [2], [3], [4]]
    await worker.stop()


def locked() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


async def test_a_locked_file_is_waited_for_once_by_a_whole_batch() -> None:
    recorder = Recorder(lambda _: locked())
    worker = started(recorder)
    answers = await asyncio.gather(*(worker.do(task) for task in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreError] * 5
    assert recorder.batches == [[0, 1, 2, 3, 4]]
    await worker.stop()


async def test_a_file_locked_while_tasks_are_done_one_by_one_is_waited_for_once() -> None:
    def fail(tasks: Sequence[int]) -> Exception | None:
        if len(tasks) > 1:
            return StoreError("one of them is bad")
        return locked() if tasks[0] >= 2 else None

    recorder = Recorder(fail)
    worker = started(recorder)
    answers = await asyncio.gather(*(worker.do(task) for task in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [int, int, StoreError, StoreError, StoreError]
    assert recorder.batches == [[0, 1, 2, 3, 4], [0], [1], [2]]
    await worker.stop()


async def test_the_loop_is_told_of_what_was_done_and_of_nothing_else() -> None:
    recorder = Recorder(lambda tasks: ValueError() if 3 in tasks else None)
    worker = started(recorder)
    await asyncio.gather(*(worker.do(task) for task in range(5)), return_exceptions=True)
    assert recorder.told == [0, 1, 2, 4]
    await worker.stop()


async def test_an_error_of_our_own_is_a_bug_with_its_cause() -> None:
    worker = started(Recorder(lambda _: KeyError("x")))
    with pytest.raises(Bug, match="KeyError") as caught:
        await worker.do(1)
    assert isinstance(caught.value.__cause__, KeyError)
    await worker.stop()


async def test_callers_beyond_the_limit_wait_and_get_their_turn() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    worker = started(recorder, max_pending=2)
    calls = [asyncio.create_task(worker.do(task)) for task in range(5)]
    for _ in range(5):
        await asyncio.sleep(0)
    recorder.gate.set()
    async with asyncio.timeout(WAIT_SECONDS):
        assert await asyncio.gather(*calls) == [0, 2, 4, 6, 8]
    assert max(len(batch) for batch in recorder.batches) <= 2
    await worker.stop()


async def test_a_cancelled_caller_gives_its_place_back() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    worker = started(recorder, max_pending=1)
    running, waiting = (asyncio.create_task(worker.do(task)) for task in (1, 2))
    for _ in range(3):
        await asyncio.sleep(0)
    running.cancel()
    waiting.cancel()
    await asyncio.wait([running, waiting])
    recorder.gate.set()
    async with asyncio.timeout(WAIT_SECONDS):
        assert await worker.do(3) == 6
    assert list(chain(*recorder.batches)) == [1, 3]
    await worker.stop()


async def test_stopping_finishes_what_is_under_way_and_refuses_the_rest() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    worker = started(recorder, max_pending=2)
    calls = [asyncio.create_task(worker.do(task)) for task in range(5)]
    await asyncio.sleep(0)
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    with pytest.raises(StoreError, match="closed"):
        await worker.do(9)
    recorder.gate.set()
    await stopping
    assert await asyncio.gather(*calls) == [0, 2, 4, 6, 8]
    assert not any(thread.name == "recorder" for thread in threading.enumerate())


def test_an_actor_that_cannot_open_is_closed_and_its_error_raised() -> None:
    class Broken(Recorder):
        def open(self) -> None:
            raise locked()

    broken = Broken()
    with pytest.raises(StoreError, match="locked"):
        started(broken)
    assert broken.closed == 1
    assert not any(thread.name == "recorder" for thread in threading.enumerate())


def test_an_answer_after_the_end_of_the_loop_is_dropped_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    recorder.gate.clear()
    worker = started(recorder)
    loop = asyncio.new_event_loop()
    task = loop.create_task(worker.do(1))
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()
    recorder.gate.set()
    worker.abandon()
    assert "after the end of the event loop" in caplog.text
