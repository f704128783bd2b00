"""Whatever is done to all three ledgers, they answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pydantic import SecretStr
from typing_extensions import override

from qcompute.ledger.contract import Ledger, Page
from qcompute.ledger.memory import MemoryLedger
from qcompute.ledger.postgres import PostgresLedger
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.job import MOVES, Job, Nonce, State, Verdict
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_charges import MOCK, charge
from qcompute.testing.ledger_records import ALICE, BOB, START_OF_TIME, SetClock, failed, new_job, own_nonce, succeeded
from qcompute.units import ExecutionId
from tests.ledger.postgres_server import ledger_database, shared_server

NAMES = [ExecutionId(f"j{number}") for number in range(5)]

nonces = st.builds(
    Nonce,
    hotkey=st.sampled_from([ALICE, BOB]),
    scope=st.sampled_from(["u", "v"]),
    value_ns=st.integers(1, 30),
    strictly_growing=st.booleans(),
)
requests = st.builds(
    new_job,
    st.sampled_from(NAMES),
    validator=st.sampled_from([ALICE, BOB]),
    received_at=st.integers(0, 5).map(lambda seconds: START_OF_TIME + timedelta(seconds=seconds)),
)
nothing: dict[str, st.SearchStrategy[Any]] = {}
saves: st.SearchStrategy[tuple[int, dict[str, Any], dict[str, Any]]] = st.tuples(
    st.integers(0, 1000),
    st.fixed_dictionaries(
        nothing,
        optional={
            "state": st.sampled_from(State),
            "verdict": st.sampled_from(Verdict),
            "attempts": st.integers(0, 9),
            "due_at": st.integers(-5, 5).map(lambda seconds: START_OF_TIME + timedelta(seconds=seconds)),
            "input_data_url": st.sampled_from(["https://else.example/?sig=2", None]),
            "error": st.text(max_size=5),
            "handle": st.dictionaries(st.text(max_size=3), st.integers() | st.floats(allow_nan=False), max_size=3),
        },
    ),
    st.fixed_dictionaries(
        nothing,
        optional={
            "circuit": st.sampled_from(["one", "two"]),
            "outcome": st.sampled_from([succeeded(), failed()]),
            "receipt": st.sampled_from(["{}", "[]"]),
            "charge": st.sampled_from([charge("0.1"), charge("0.2", settled=True), charge("7", currency="credits")]),
        },
    ),
)
limits = st.integers(-1, 4)
foreign_cursors = st.sampled_from(
    [
        FIRST_CURSOR,
        "",
        "2026-11-21 02:46:50",
        "2026-11-21 02:46:53",
        "2026-11-21 02:46:52.5|77|3",
        "2030-01-01 00:00:00",
    ]
)


Calls: TypeAlias = Sequence[Coroutine[Any, Any, Any]]


async def answer(call: Awaitable[Any]) -> Any:
    """What a call returns, or the kind of error it raises."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - whichever it is, the twin must raise it too
        return type(error)


async def answers(calls: Calls) -> list[Any]:
    return [await task for task in [asyncio.ensure_future(answer(call)) for call in calls]]


class Twins(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self._settings = LedgerSettings(path=Path(self._folder.name) / "ledger.sqlite3")
        self._runner = asyncio.Runner()
        self._clock = SetClock()
        self._memory: Ledger = MemoryLedger(self._clock)
        self._sqlite: Ledger = SqliteLedger(self._settings, self._clock)
        self._database = ledger_database()
        url = SecretStr(shared_server().url(self._database.__enter__()))
        self._with_url = self._settings.model_copy(update={"url": url, "key_file": Path(self._folder.name) / "key"})
        self._postgres: Ledger = PostgresLedger(self._with_url, self._clock)
        self._seen: list[Job] = []
        self._cursors: list[tuple[str, ...]] = [(FIRST_CURSOR,) * 3]

    @override
    def teardown(self) -> None:
        self._runner.run(self._sqlite.close())
        self._runner.run(self._postgres.close())
        self._database.__exit__(None, None, None)
        self._runner.close()
        self._folder.cleanup()

    def all(self, call: Callable[[Ledger], Coroutine[Any, Any, Any]]) -> Any:
        """The answer to a call, which must be the same on each."""
        (one,) = self.all_of(lambda ledger: [call(ledger)])
        return one

    def all_of(self, calls: Callable[[Ledger], Calls]) -> list[Any]:
        """The answers to concurrent calls."""

        async def ask() -> tuple[list[Any], list[Any], list[Any]]:
            return (
                await answers(calls(self._memory)),
                await answers(calls(self._sqlite)),
                await answers(calls(self._postgres)),
            )

        memory, sqlite, postgres = self._runner.run(ask())
        assert memory == sqlite
        assert memory == postgres
        return memory

    @initialize()
    def accept_some(self) -> None:
        self.all_of(lambda ledger: [ledger.accept(new_job(name), own_nonce(name)) for name in NAMES[:3]])

    @rule(jobs=st.lists(st.tuples(requests, nonces), min_size=1, max_size=4))
    def accept(self, jobs: list[Any]) -> None:
        self.all_of(lambda ledger: [ledger.accept(request, nonce) for request, nonce in jobs])

    @rule(used=st.lists(nonces, min_size=1, max_size=4))
    def use_nonces(self, used: list[Nonce]) -> None:
        self.all_of(lambda ledger: [ledger.use_nonce(nonce) for nonce in used])

    @rule(before_ns=st.integers(0, 31))
    def forget_nonces(self, before_ns: int) -> None:
        self.all(lambda ledger: ledger.forget_nonces(before_ns))

    @rule(chosen=st.lists(saves, min_size=1, max_size=4))
    def save(self, chosen: list[tuple[int, dict[str, Any], dict[str, Any]]]) -> None:
        if not self._seen:
            return
        # Counted from the end, because the newest version is the one that can be saved.
        befores = [self._seen[-1 - place % len(self._seen)] for place, _, _ in chosen]
        stored = self.all_of(
            lambda ledger: [
                ledger.save(before, replace(before, **changes), **parts)
                for before, (_, changes, parts) in zip(befores, chosen, strict=True)
            ]
        )
        self._seen += [job for job in stored if isinstance(job, Job)]

    @rule(names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=5), choice=st.integers(0, 5), last=st.booleans())
    def move_along(self, names: list[ExecutionId], choice: int, *, last: bool) -> None:
        """Allowed moves, mostly the one furthest along, of several jobs at once."""
        newest = {job.execution_id: job for job in self._seen}
        befores = [newest[name] for name in names if name in newest and MOVES[newest[name].state]]
        afters = [sorted(MOVES[before.state], key=list(State).index) for before in befores]
        moves = [
            (before, replace(before, state=states[-1 if last else choice % len(states)], verdict=Verdict.FAILED))
            for before, states in zip(befores, afters, strict=True)
        ]
        stored = self.all_of(lambda ledger: [ledger.save(before, after) for before, after in moves])
        self._seen += [job for job in stored if isinstance(job, Job)]

    @rule(place=st.integers(0, 1000), limit=limits)
    def collect(self, place: int, limit: int) -> None:
        self._collect(self._cursors[place % len(self._cursors)], limit)

    @rule(cursor=foreign_cursors, limit=limits)
    def collect_with_a_foreign_cursor(self, cursor: str, limit: int) -> None:
        self._collect((cursor,) * 3, limit)

    def _collect(self, cursors: tuple[str, ...], limit: int) -> None:
        ledgers = (self._memory, self._sqlite, self._postgres)

        async def ask() -> list[Page]:
            return [await ledger.finished_after(cursor, limit) for ledger, cursor in zip(ledgers, cursors, strict=True)]

        memory, *others = self._runner.run(ask())
        for page in others:
            assert page.jobs == memory.jobs
            # The ledgers have different names; all else in their cursors is the same.
            assert page.cursor.split("|")[::2] == memory.cursor.split("|")[::2]
        self._cursors.append((memory.cursor, *(page.cursor for page in others)))

    @rule(seconds=st.sampled_from([-2, -0.000_001, 0, 0.5, 3]))
    def move_the_clock(self, seconds: float) -> None:
        self._clock.move(seconds)

    @rule(seconds=st.integers(-3, 3))
    def purge(self, seconds: int) -> None:
        self.all(lambda ledger: ledger.purge(self._clock.now + timedelta(seconds=seconds)))

    @rule()
    def reopen(self) -> None:
        self._runner.run(self._sqlite.close())
        self._sqlite = SqliteLedger(self._settings, self._clock)

    @rule()
    def reopen_postgres(self) -> None:
        self._runner.run(self._postgres.close())
        self._postgres = PostgresLedger(self._with_url, self._clock)

    @rule(state=st.sampled_from(State), seconds=st.integers(-5, 5), limit=limits)
    def ask_what_is_due(self, state: State, seconds: int, limit: int) -> None:
        now = START_OF_TIME + timedelta(seconds=seconds)
        self.all_of(lambda ledger: [ledger.next_due_at(state), ledger.due(state, now, limit)])

    @rule(name=st.sampled_from(NAMES))
    def ask_for_parts(self, name: ExecutionId) -> None:
        self.all_of(lambda ledger: [ledger.circuit(name), ledger.outcome(name), ledger.receipt(name)])

    @rule(seconds=st.integers(-1, 1))
    def forget_charges(self, seconds: int) -> None:
        self.all(lambda ledger: ledger.forget_charges(START_OF_TIME + timedelta(seconds=seconds)))

    @invariant()
    def charge_the_same(self) -> None:
        self.all_of(lambda ledger: [ledger.charged_by_day(MOCK, START_OF_TIME), ledger.open_charges(MOCK)])

    @invariant()
    def hold_the_same(self) -> None:
        rows = self.all_of(
            lambda ledger: [*(ledger.get(name) for name in NAMES), ledger.count_by_state(), ledger.open_by_validator()]
        )
        self._seen += [row for row in rows if isinstance(row, Job) and row not in self._seen]

    @invariant()
    def number_closed_jobs_once_and_for_all(self) -> None:
        closed = {(job.execution_id, job.cursor_seq, job.closed_at) for job in self._seen if job.cursor_seq is not None}
        assert len({seq for _, seq, _ in closed}) == len(closed)
        by_number = sorted(closed, key=lambda job: job[1] or 0)
        assert [job[2] for job in by_number] == sorted({job[2] or START_OF_TIME for job in closed})


Twins.TestCase.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestTwins = Twins.TestCase
