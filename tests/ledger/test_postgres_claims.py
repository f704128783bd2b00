"""One owner at a time on a real server, among real processes that are killed, stopped and cut off."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from qcompute.errors import StoreError
from qcompute.ledger.claims import Fenced, NotOurs, Tenure
from qcompute.ledger.lease import HELD_SECONDS, LEASE_SECONDS
from qcompute.ledger.postgres import PostgresLedger
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import State
from qcompute.testing.ledger_fixtures import WAIT_SECONDS
from qcompute.testing.ledger_records import accepted, brought_to
from tests.ledger.claiming_process import PAYMENT
from tests.ledger.postgres_server import shared_server
from tests.ledger.test_postgres_failures import name_in, run_sql
from tests.network import Network, own_network

TAKEOVER_SECONDS = 5.0
START_SECONDS = 60.0
LANE = "ibm"
END_LANES = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)

Pair = tuple[PostgresLedger, PostgresLedger]


@pytest.fixture
async def pair(postgres_settings: LedgerSettings) -> AsyncIterator[Pair]:
    one, two = (PostgresLedger(postgres_settings, alone=False) for _ in range(2))
    yield one, two
    await one.close()
    await two.close()


async def taken(ledger: PostgresLedger, lane: str = LANE) -> Tenure:
    tenure = await ledger.claims.take(lane)
    assert tenure is not None
    return tenure


async def taken_over(ledger: PostgresLedger, lane: str = LANE) -> Tenure:
    """The lane, as soon as it can be had."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if (tenure := await ledger.claims.take(lane)) is not None:
                return tenure
            await asyncio.sleep(0.05)


class Claimer:
    """`tests.ledger.claiming_process`, and what it says."""

    def __init__(self, settings: LedgerSettings, *, enforce: bool, before: Sequence[str] = ()) -> None:
        assert settings.url is not None
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [
                *(*before, sys.executable, "-m", "tests.ledger.claiming_process"),
                *(settings.url.get_secret_value(), str(settings.key), LANE, "enforce" if enforce else "free"),
            ],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._said = b""

    def tell(self, *words: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, words: str, seconds: float = WAIT_SECONDS) -> list[str]:
        """Its next line, which begins so, without that."""
        line = self.hear_line(seconds)
        assert line.startswith(words), line
        return line.removeprefix(words).split()

    def hear_line(self, seconds: float = WAIT_SECONDS) -> str:
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._said:
                assert selector.select(deadline - time.monotonic()), f"said only {self._said!r}"
                more = os.read(self._process.stdout.fileno(), 4096)
                assert more, f"ended with {self._process.wait()}, having said {self._said!r}"
                self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        """SIGSTOP, and wait until no thread runs: each stops when the kernel gets round to telling it."""
        self.signal(signal.SIGSTOP)
        deadline = time.monotonic() + WAIT_SECONDS
        while any(_thread_state(stat) != "T" for stat in Path(f"/proc/{self._process.pid}/task").glob("*/stat")):
            assert time.monotonic() < deadline, "it did not stop"
            time.sleep(0.001)

    def wait(self) -> int:
        return self._process.wait(WAIT_SECONDS)

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


def _thread_state(stat: Path) -> str:
    return stat.read_text().rpartition(")")[2].split()[0]


@contextmanager
def claimers(settings: LedgerSettings, count: int, *, enforce: bool = True) -> Generator[list[Claimer]]:
    """Processes that have opened the ledger and taken nothing."""
    with ExitStack() as ends:
        started = [Claimer(settings, enforce=enforce) for _ in range(count)]
        for one in started:
            ends.callback(one.end)
        for one in started:
            one.hear("ready", START_SECONDS)
        yield started


async def test_a_lane_is_one_process_and_free_at_once_when_it_lets_go(pair: Pair) -> None:
    one, two = pair
    first = await taken(one)
    assert [await two.claims.take(LANE) for _ in range(3)] == [None] * 3
    assert await two.claims.take("ionq") is not None, "another lane is another's"
    assert one.claims.is_held(first)
    await one.claims.let_go(first)
    assert not one.claims.is_held(first)
    second = await taken(two)
    assert second.fence > first.fence
    await one.claims.let_go(first)
    assert two.claims.is_held(second), "the end of an old tenure is not the new one's"
    assert await one.claims.take(LANE) is None


async def test_who_holds_a_lane_longer_than_a_lease_keeps_it(pair: Pair) -> None:
    one, two = pair
    tenure = await taken(one)
    began = time.monotonic()
    while time.monotonic() - began < LEASE_SECONDS + 1:
        assert await two.claims.take(LANE) is None
        assert one.claims.is_held(tenure)
        await asyncio.sleep(0.1)
    losing = asyncio.create_task(one.claims.wait_until_lost(tenure))
    assert not losing.done()
    await one.claims.let_go(tenure)
    async with asyncio.timeout(WAIT_SECONDS):
        await losing


async def test_closing_a_ledger_lets_its_lanes_go(postgres_settings: LedgerSettings, pair: Pair) -> None:
    third = PostgresLedger(postgres_settings, alone=False)
    await taken(third)
    await taken(third, "ionq")
    await third.close()
    assert await pair[0].claims.take(LANE) is not None
    assert await pair[1].claims.take("ionq") is not None
    with pytest.raises(StoreError, match="closed"):
        await third.claims.take(LANE)


async def test_a_second_call_of_the_owner_begins_a_new_tenure(pair: Pair) -> None:
    first = await taken(pair[0])
    second = await taken(pair[0])
    assert second.fence == first.fence + 1
    assert [pair[0].claims.is_held(tenure) for tenure in (first, second)] == [False, True]
    assert await pair[1].claims.take(LANE) is None


async def test_a_lane_is_not_taken_anew_while_a_paid_call_of_its_old_tenure_runs(pair: Pair) -> None:
    first = await taken(pair[0])
    with pair[0].claims.paid_call(first):
        assert await pair[0].claims.take(LANE) is None
        with pytest.raises(NotOurs, match=LANE), pair[0].claims.paid_call(first):
            pytest.fail("it is over")
    assert (await taken_over(pair[0])).fence > first.fence


async def test_what_is_let_go_in_the_middle_of_a_paid_call_stays_closed_for_a_lease(pair: Pair) -> None:
    first = await taken(pair[0])
    with pair[0].claims.paid_call(first):
        await pair[0].claims.let_go(first)
        assert await pair[1].claims.take(LANE) is None
        await taken_over(pair[1])


async def test_a_cancelled_caller_keeps_no_lane(pair: Pair) -> None:
    for _ in range(20):
        call = asyncio.create_task(pair[0].claims.take(LANE))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
    await taken_over(pair[1])


async def test_an_owner_whose_session_breaks_keeps_its_tenure(pair: Pair, postgres_settings: LedgerSettings) -> None:
    """It connects again at once; the other sees the lock free and must not take that for the owner's end."""
    one, two = pair
    tenure = await taken(one)
    for _ in range(3):
        run_sql(postgres_settings, END_LANES)
        began = time.monotonic()
        while time.monotonic() - began < 1.0:
            assert await two.claims.take(LANE) is None
            assert one.claims.is_held(tenure)
            await asyncio.sleep(0.02)
    job = await accepted(one, "a")
    await one.save(job, replace(job, attempts=1), tenure=tenure)


async def test_an_owner_that_cannot_reach_the_database_knows_in_time_that_its_lane_is_lost(
    pair: Pair, postgres_settings: LedgerSettings
) -> None:
    tenure = await taken(pair[0])
    losing = asyncio.create_task(pair[0].claims.wait_until_lost(tenure))
    began = time.monotonic()
    database = name_in(postgres_settings)
    server = shared_server()
    try:
        with server.connect("postgres") as operator:
            operator.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false".encode())
            operator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
        async with asyncio.timeout(LEASE_SECONDS):
            await losing
        assert time.monotonic() - began >= HELD_SECONDS - 1.0
        assert not pair[0].claims.is_held(tenure)
        with pytest.raises(NotOurs), pair[0].claims.paid_call(tenure):
            pytest.fail("it may be another's")
        with pytest.raises(StoreError, match=r"ledger\.url"):
            await pair[1].claims.take(LANE)
    finally:
        server.run_sql("postgres", f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    assert (await taken_over(pair[1])).fence > tenure.fence


async def test_a_beat_that_finds_another_fence_ends_the_tenure(pair: Pair, postgres_settings: LedgerSettings) -> None:
    tenure = await taken(pair[0])
    losing = asyncio.create_task(pair[0].claims.wait_until_lost(tenure))
    run_sql(postgres_settings, "UPDATE owners SET fence = fence + 1")
    async with asyncio.timeout(HELD_SECONDS - 0.5):
        await losing
    assert not pair[0].claims.is_held(tenure)


async def test_a_write_in_an_old_name_and_a_takeover_are_one_after_the_other(
    pair: Pair, postgres_settings: LedgerSettings
) -> None:
    """The taker waits for a transaction that has seen the fence, and one that begins later sees the new one."""
    one, two = pair
    tenure = await taken(one)
    job = await brought_to(one, "a", State.READY)
    with shared_server().connect(name_in(postgres_settings)) as writer:
        writer.execute("BEGIN")
        writer.execute("SELECT fence FROM owners WHERE lane = 'ibm' FOR KEY SHARE")
        await one.claims.let_go(tenure)  # changes no key: it need not wait
        for _ in range(2):
            assert await two.claims.take(LANE) is None, "the writer may still commit"
        writer.execute("UPDATE jobs SET attempts = 7")
        writer.execute("COMMIT")
    new = await taken_over(two)
    assert (await two.due(State.READY, job.due_at, 1))[0].attempts == 7
    with pytest.raises(Fenced):
        await one.save(job, replace(job, attempts=1), tenure=tenure)
    assert (await two.save(job, replace(job, attempts=1), tenure=new)).attempts == 1


async def test_a_write_that_meets_a_takeover_waits_for_it_and_is_refused(
    pair: Pair, postgres_settings: LedgerSettings
) -> None:
    tenure = await taken(pair[0])
    job = await accepted(pair[0], "a")
    with shared_server().connect(name_in(postgres_settings)) as taker:
        taker.execute("BEGIN")
        taker.execute("SELECT fence FROM owners WHERE lane = 'ibm' FOR UPDATE")
        taker.execute("UPDATE owners SET fence = fence + 1")
        saving = asyncio.create_task(pair[0].save(job, replace(job, attempts=1), tenure=tenure))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while run_sql(postgres_settings, waiting) == [(0,)]:  # noqa: ASYNC110 - in the server
            await asyncio.sleep(0.01)
        assert not saving.done()
        taker.execute("COMMIT")
    with pytest.raises(Fenced):
        await saving
    assert await pair[0].get(job.execution_id) == job


async def test_beats_go_on_beside_a_transaction_that_has_seen_the_fence(
    pair: Pair, postgres_settings: LedgerSettings
) -> None:
    tenure = await taken(pair[0])
    with shared_server().connect(name_in(postgres_settings)) as writer:
        writer.execute("BEGIN")
        writer.execute("SELECT fence FROM owners WHERE lane = 'ibm' FOR KEY SHARE")
        began = time.monotonic()
        while time.monotonic() - began < LEASE_SECONDS:
            assert pair[0].claims.is_held(tenure)
            await asyncio.sleep(0.1)


async def test_many_that_want_one_lane_never_have_it_together(postgres_settings: LedgerSettings) -> None:
    ledgers = [PostgresLedger(postgres_settings, alone=False) for _ in range(4)]
    held: list[Tenure] = []
    fences: list[int] = []

    async def work(ledger: PostgresLedger) -> None:
        while len(fences) < 40:
            tenure = await ledger.claims.take(LANE)
            if tenure is None:
                await asyncio.sleep(0.001)
                continue
            held.append(tenure)
            assert len(held) == 1
            fences.append(tenure.fence)
            await asyncio.sleep(0.002)
            held.remove(tenure)
            await ledger.claims.let_go(tenure)

    async with asyncio.timeout(3 * WAIT_SECONDS):
        await asyncio.gather(*map(work, ledgers))
    assert fences == sorted(set(fences))
    for ledger in ledgers:
        await ledger.close()


def test_a_killed_owner_is_replaced_by_one_of_two_standbys(postgres_settings: LedgerSettings) -> None:
    with claimers(postgres_settings, 3) as (owner, *standbys):
        owner.tell("take")
        (fence, _) = owner.hear("taken")
        for standby in standbys:
            standby.tell("take")
        killed_at = time.time()
        owner.signal(signal.SIGKILL)
        owner.wait()
        with selectors.DefaultSelector() as selector:
            for standby in standbys:
                assert standby._process.stdout is not None
                selector.register(standby._process.stdout, selectors.EVENT_READ, standby)
            ((key, _),) = selector.select(WAIT_SECONDS)
            new_fence, at = key.data.hear("taken")
            assert (int(new_fence), float(at) - killed_at < TAKEOVER_SECONDS) == (int(fence) + 1, True)
            selector.unregister(key.fileobj)
            assert selector.select(1.0) == [], "the other waits on"


@pytest.mark.parametrize("in_mid_transaction", [False, True])
def test_a_stopped_owner_is_replaced_and_knows_it_when_it_goes_on(
    postgres_settings: LedgerSettings, *, in_mid_transaction: bool
) -> None:
    with claimers(postgres_settings, 2) as (owner, standby):
        owner.tell("take")
        owner.hear("taken")
        standby.tell("take")
        stopped_at = time.time()
        owner.stop()
        with ExitStack() as stack:
            if in_mid_transaction:
                # As the owner's writer would stand, ended by the server after `STILL_WRITER_MS`.
                writer = stack.enter_context(closing(shared_server().connect(name_in(postgres_settings))))
                writer.execute("SET idle_in_transaction_session_timeout = 2000")
                writer.execute("BEGIN")
                writer.execute("SELECT fence FROM owners FOR KEY SHARE")
            _, at = standby.hear("taken")
        assert float(at) - stopped_at < TAKEOVER_SECONDS
        owner.signal(signal.SIGCONT)
        owner.hear("lost")
        owner.tell("held")
        owner.hear("not held")
        standby.tell("held")
        standby.hear("held")


def test_an_owner_whose_network_is_cut_is_replaced_and_comes_back(postgres_settings: LedgerSettings) -> None:
    with own_network(shared_server().port) as network, claimers(postgres_settings, 1) as (standby,):
        owner = Claimer(postgres_settings, enforce=True, before=network.enter)
        try:
            _cut_off(owner, standby, network)
        finally:
            owner.end()


def _cut_off(owner: Claimer, standby: Claimer, network: Network) -> None:
    owner.hear("ready", START_SECONDS)
    owner.tell("take")
    owner.hear("taken")
    standby.tell("take")
    cut_at = time.time()
    network.cut()
    owner.hear("lost")
    lost_after = time.time() - cut_at
    _, at = standby.hear("taken")
    assert lost_after < float(at) - cut_at < TAKEOVER_SECONDS, "it knows before another goes to work"
    network.mend()
    owner.tell("take")
    standby.tell("end")
    owner.hear("taken")


@contextmanager
def fake_vendor() -> Generator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as vendor:
        vendor.settimeout(1.0)
        yield vendor


def heard_by(vendor: socket.socket) -> bytes:
    """What was sent to it; nothing when nobody connected."""
    try:
        connection, _ = vendor.accept()
    except TimeoutError:
        return b""
    with connection:
        return connection.recv(100)


@pytest.mark.parametrize("enforce", [True, False])
def test_a_paid_call_that_stood_still_for_a_lease_is_never_sent(
    postgres_settings: LedgerSettings, *, enforce: bool
) -> None:
    """Without the kernel's timer it is sent, a lease too late: what the timer is there for.

    On a busy machine this test once told the owner to go on before SIGSTOP had reached the thread that pays, which then
    paid in time.
    """
    with claimers(postgres_settings, 1, enforce=enforce) as (owner,), fake_vendor() as vendor:
        owner.tell("take")
        owner.hear("taken")
        owner.tell("pay", vendor.getsockname()[1])
        owner.hear("paying")
        owner.stop()
        owner.tell("go on")
        with claimers(postgres_settings, 1) as (standby,):
            standby.tell("take")
            standby.hear("taken")
            owner.signal(signal.SIGCONT)
            assert heard_by(vendor) == (b"" if enforce else PAYMENT)
            if enforce:
                assert owner.wait() == -signal.SIGKILL


def test_a_paid_call_may_take_longer_than_a_lease(postgres_settings: LedgerSettings) -> None:
    with claimers(postgres_settings, 1) as (owner,), fake_vendor() as vendor:
        owner.tell("take")
        owner.hear("taken")
        for _ in range(2):
            owner.tell("pay", vendor.getsockname()[1])
            owner.hear("paying")
            with pytest.raises(AssertionError, match="said only b''"):
                owner.hear_line(LEASE_SECONDS + 1)
            owner.tell("go on")
            assert heard_by(vendor) == PAYMENT
            owner.hear("paid")
        owner.stop()
        with pytest.raises(AssertionError, match="said only b''"):
            owner.hear_line(LEASE_SECONDS + 1)
        owner.signal(signal.SIGCONT)
        owner.hear("lost")
        owner.tell("pay", vendor.getsockname()[1])
        owner.hear("not ours")
        owner.tell("end")
        assert owner.wait() == 0, "between two paid calls a process may stand still"
