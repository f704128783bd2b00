"""Blocking calls run in threads that outlive them; what comes back is the adapter's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from qcompute.errors import CannotRun, Unavailable
from qcompute.miner import account as account_module
from qcompute.miner import fleet as fleet_module
from qcompute.miner.account import Account
from qcompute.miner.budget import Budgets
from qcompute.miner.fleet import Fleet
from qcompute.miner.heartbeat import Heartbeat, ask_vendor, backend_status
from qcompute.miner.limits import MinerSettings
from qcompute.miner.providers.base import BaseExecutionStatus, Device, JobHandle, Limits, Rate, Verb
from qcompute.units import ProviderKey
from tests.unit.miner.scripted import Scene, Server, Vendor


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


HANDLES = [JobHandle(provider_job_id=f"j{number}", device_id="d") for number in range(10)]


async def test_calls_run_beside_each_other_and_off_the_event_loop(scene: Scene) -> None:
    barrier = threading.Barrier(2, timeout=5)

    def meet() -> str:
        barrier.wait()
        return threading.current_thread().name

    names = await asyncio.gather(scene.account.call("meet", meet), scene.account.call("meet", meet))
    assert len(set(names)) == 2
    assert all(name.startswith("provider-scripted") for name in names)


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("x")])
async def test_errors_are_the_adapters_own(scene: Scene, error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        await scene.account.call("fail", fail)


@pytest.mark.parametrize("error", [StopIteration(), SystemExit(1), KeyboardInterrupt()])
async def test_what_cannot_travel_does_not_end_the_daemon(scene: Scene, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__):
        await scene.account.call("fail", fail)
    assert await scene.account.call("next", lambda: 7) == 7


async def test_without_a_batch_call_each_handle_is_asked_for(scene: Scene) -> None:
    answers = await asyncio.gather(*(scene.account.poll(handle) for handle in HANDLES))
    assert len(answers) == 10
    assert scene.vendor.polls == 10


class Batching(Vendor):
    """Polls in batches, some of which fail."""

    batches: list[int]
    fail = False

    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        self.batches.append(len(handles))
        if self.fail:
            raise Unavailable("maintenance")
        return [BaseExecutionStatus(status="RUNNING", message=handle.provider_job_id) for handle in handles]


class Slow(Batching):
    """Bears one poll now and one much later."""

    def limits(self) -> Limits:
        return Limits(rates={Verb.POLL: Rate(5.0)}, max_poll_batch=6)


async def test_who_waits_for_a_turn_shares_the_call_up_to_its_size() -> None:
    """A thousand rows that fell due one by one made a thousand calls, each waiting for a turn of its own."""
    vendor = Slow()
    vendor.batches = []
    account = Account(ProviderKey("slow"), vendor, threads=2)
    first = await account.poll(HANDLES[0])
    assert isinstance(first, BaseExecutionStatus)
    waiting = [asyncio.create_task(account.poll(handle)) for handle in HANDLES[:1]]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting += [asyncio.create_task(account.poll(handle)) for handle in HANDLES[1:]]
    answers = await asyncio.gather(*waiting)
    assert vendor.batches == [1, 6, 4]
    assert [getattr(answer, "message", None) for answer in answers] == [handle.provider_job_id for handle in HANDLES]
    await account.close(limit_seconds=1)


async def test_a_pause_is_every_waiting_polls_answer() -> None:
    vendor = Batching()
    vendor.batches = []
    account = Account(ProviderKey("paused"), vendor, threads=2)
    account._pace.pause(Verb.POLL, 60)
    answers = await asyncio.gather(*(account.poll(handle) for handle in HANDLES))
    assert all(isinstance(answer, Unavailable) for answer in answers)
    assert vendor.batches == []
    await account.close(limit_seconds=1)


async def test_a_batch_call_serves_all_in_order() -> None:
    vendor = Batching()
    vendor.batches = []
    account = Account(ProviderKey("batching"), vendor, threads=2)
    answers = await asyncio.gather(*(account.poll(handle) for handle in HANDLES))
    assert vendor.batches == [10]
    assert [getattr(answer, "message", None) for answer in answers] == [handle.provider_job_id for handle in HANDLES]
    vendor.fail = True
    again = await asyncio.gather(*(account.poll(handle) for handle in HANDLES))
    assert all(isinstance(answer, Unavailable) for answer in again)
    await account.close(limit_seconds=1)


class Choosy(Batching):
    """Bears four handles in a call, not the one called j5, and miscounts with the one called j8."""

    def limits(self) -> Limits:
        return Limits(max_poll_batch=4)

    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        answers = super().poll_many(handles)
        names = [handle.provider_job_id for handle in handles]
        if "j5" in names:
            raise Unavailable("not this one")
        return answers[1:] if "j8" in names else answers


async def test_many_are_asked_for_in_calls_of_the_adapters_size_and_one_fails_alone() -> None:
    vendor = Choosy()
    vendor.batches = []
    account = Account(ProviderKey("choosy"), vendor, threads=2)
    answers = await account.poll_all(HANDLES)
    assert sorted(vendor.batches) == [2, 4, 4]
    assert [getattr(answer, "message", None) for answer in answers[:4]] == ["j0", "j1", "j2", "j3"]
    assert [type(answer) for answer in answers[4:]] == [Unavailable] * 4 + [ValueError] * 2
    assert await account.poll_all([]) == []
    account._pace.pause(Verb.POLL, 60)
    assert [type(answer) for answer in await account.poll_all(HANDLES)] == [Unavailable] * 10
    assert len(vendor.batches) == 3, "a pause is no call"
    await account.close(limit_seconds=1)


async def test_a_call_that_never_returns_does_not_keep_the_account_open() -> None:
    release = threading.Event()
    account = Account(ProviderKey("stuck"), Vendor(), threads=1)
    stuck = asyncio.create_task(account.call("hang", release.wait))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await account.close(limit_seconds=0.1)
    release.set()
    await stuck


async def test_the_job_server_is_told_at_start_on_change_and_at_the_end(scene: Scene) -> None:
    server, serving = Server(), True
    settings = MinerSettings(heartbeat_seconds=0.05)
    heartbeat = Heartbeat([scene.account], server, scene.ledger, settings, may_serve=lambda: serving)
    task = asyncio.create_task(heartbeat.run())
    await until(lambda: len(server.reports) >= 2)
    assert (server.reports[0].status, server.reports[0].accepting_jobs) == ("Online", True)
    serving = False
    await until(lambda: not server.reports[-1].accepting_jobs)
    await heartbeat.say_offline()
    count = len(server.reports)
    serving = True
    await asyncio.sleep(0.2)
    assert len(server.reports) == count, "nothing is said after Offline"
    assert server.reports[-1].status == "Offline"
    task.cancel()


async def test_a_full_miner_is_online_and_takes_no_more(scene: Scene) -> None:
    server = Server()
    settings = MinerSettings(heartbeat_seconds=0.05, max_inflight=2)
    for number in range(2):
        await scene.job(f"job-{number}")
    heartbeat = Heartbeat([scene.account], server, scene.ledger, settings, may_serve=lambda: True)
    task = asyncio.create_task(heartbeat.run())
    await until(lambda: bool(server.reports))
    assert (server.reports[0].status, server.reports[0].accepting_jobs, server.reports[0].queue_depth) == (
        "Online",
        False,
        2,
    )
    task.cancel()


async def test_a_vendor_that_cannot_be_asked_is_offline_with_the_reason(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> list[object]:
        raise Unavailable("maintenance until noon")

    monkeypatch.setattr(scene.vendor, "list_devices", away)
    server = Server()
    heartbeat = Heartbeat(
        [scene.account], server, scene.ledger, MinerSettings(heartbeat_seconds=0.05), may_serve=lambda: True
    )
    task = asyncio.create_task(heartbeat.run())
    await until(lambda: bool(server.reports))
    assert server.reports[0].status == "Offline"
    assert "maintenance until noon" in server.reports[0].metadata["status_msg"]
    task.cancel()


async def test_an_account_that_is_offline_says_so_of_its_devices(scene: Scene) -> None:
    """A machine whose health check failed was told as available, because its adapter knew nothing of the check."""
    well = False

    def health() -> None:
        if not well:
            raise Unavailable("the fridge is warm")

    account = Account(ProviderKey("lab"), scene.vendor, threads=1, health=health)
    assert (account.offline_because, account.device_names) == (None, ())
    await account.look()
    (report,) = await account.call("describe", ask_vendor, account)
    assert report.availability is not None
    assert (report.availability.availability, report.availability.status_msg) == ("OFFLINE", "the fridge is warm")
    assert backend_status([report]) == "Offline"
    well = True
    await account.look()
    assert account.offline_because is None
    (report,) = await account.call("describe", ask_vendor, account)
    assert backend_status([report]) == "Online"
    await account.close(limit_seconds=1)


async def test_devices_that_are_in_no_node_are_told_to_nobody(scene: Scene) -> None:
    """The job server heard of all devices of an adapter, those no job would ever be given to as well."""
    (device,) = scene.vendor.list_devices()
    ours = Account(ProviderKey("ours"), scene.vendor, threads=1, tags={device.device_id: ()}, health=lambda: None)
    none = Account(ProviderKey("none"), scene.vendor, threads=1, tags={"another": ()})
    await ours.look()
    assert ours.device_names == (device.device_id,)
    assert len(await ours.call("describe", ask_vendor, ours)) == 1
    assert await none.call("describe", ask_vendor, none) == []
    await ours.close(limit_seconds=1)
    await none.close(limit_seconds=1)


def test_no_device_is_offline() -> None:
    assert backend_status([]) == "Offline"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what others did is no event
            await asyncio.sleep(0.01)


async def test_a_health_check_that_hangs_takes_its_account_offline_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The watch waited for all checks together: one that never came back kept the others as they were for ever.

    An account that was down then stayed offline when it was well again, one that broke stayed online, and the one that
    hung never went offline at all.
    """
    monkeypatch.setattr(account_module, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(fleet_module, "HEALTH_SECONDS", 0.05)
    stuck, is_well = threading.Event(), threading.Event()

    def well() -> None:
        if not is_well.is_set():
            raise Unavailable("switched off")

    def hang() -> None:
        stuck.wait(30)

    hangs = Account(ProviderKey("hangs"), Vendor(), threads=2, health=hang)
    other = Account(ProviderKey("other"), Vendor(), threads=2, health=well)
    watch = asyncio.create_task(Fleet([hangs, other], Budgets([])).watch())
    try:
        await until(lambda: other.offline_because == "switched off")
        await until(lambda: hangs.offline_because == "it has not answered for 0 s")
        is_well.set()
        await until(lambda: other.offline_because is None)
        assert hangs.offline_because is not None
        stuck.set()
        await until(lambda: hangs.offline_because is None)
    finally:
        stuck.set()
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        for account in (hangs, other):
            await account.close(limit_seconds=1)


async def test_an_account_whose_threads_are_all_at_work_is_not_taken_for_one_that_hangs() -> None:
    """Its health check waited for a thread behind slow submits, and the 30 s for its answer were over before it began.

    The account was told to be offline, and its jobs went elsewhere.
    """
    busy = threading.Event()
    account = Account(ProviderKey("busy"), Vendor(), threads=1, health=lambda: None)
    submit = asyncio.create_task(account.call(Verb.SUBMIT, busy.wait, 30))
    try:
        async with asyncio.timeout(5):
            await account.look()
        assert (account.offline_because, account.device_names) == (None, ("dev",))
        assert not submit.done()
    finally:
        busy.set()
        await submit
        await account.close(limit_seconds=1)


async def test_a_list_of_devices_that_hangs_holds_up_no_other_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the health check had a limit: an account that was well and did not name its devices stopped the watch.

    No account was looked at again, and whoever gave it a new key waited for ever.
    """
    monkeypatch.setattr(account_module, "LOOK_SECONDS", 0.1)
    stuck = threading.Event()

    class Mute(Vendor):
        def list_devices(self) -> list[Device]:
            stuck.wait(30)
            return super().list_devices()

    account = Account(ProviderKey("mute"), Mute(), threads=2, health=lambda: None)
    try:
        async with asyncio.timeout(5):
            await account.look()
            await account.look()
        assert (account.offline_because, account.device_names) == ("it has not answered for 0 s", ())
        stuck.set()
        async with asyncio.timeout(5):
            while account.offline_because is not None:
                await account.look()
        assert account.device_names == ("dev",)
    finally:
        stuck.set()
        await account.close(limit_seconds=1)


async def test_an_old_adapter_that_does_not_close_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    """The calls it was in were waited for with a limit, and its `close` without: `rotate` stood still with it."""
    stuck = threading.Event()

    class Clinging(Vendor):
        def close(self) -> None:
            stuck.wait(30)

    old, new = Clinging(), Vendor()
    account = Account(ProviderKey("lab"), old, threads=2)
    try:
        async with asyncio.timeout(5):
            await account.replace_adapter(new, limit_seconds=0.1)
        assert account.adapter is new
        assert "lab: the adapter did not close in time" in caplog.text
    finally:
        stuck.set()
        await account.close(limit_seconds=1)


async def test_a_device_takes_no_wider_circuits_than_its_operator_says(scene: Scene) -> None:
    """``max_qubits`` of a fleet's local nodes limited nothing: wider circuits were routed there, and offered for."""
    (device,) = scene.vendor.list_devices()
    account = Account(ProviderKey("desk"), scene.vendor, threads=1, widths={device.device_id: 1})
    circuit = await scene.circuits.compiled(await scene.ready())
    told = f"the circuit has 2 qubits, and desk gives {device.device_id} 1 \\(max_qubits\\)"
    with pytest.raises(CannotRun, match=told):
        account.check(circuit, device, 10)
    scene.account.check(circuit, device, 10)
    unlimited = scene.account.capability(device.device_id)
    limited = account.capability(device.device_id)
    assert limited is not None
    assert unlimited is not None
    assert (limited.num_qubits, limited.basis_gates) == (1, unlimited.basis_gates)
    (report,) = await account.call("describe", ask_vendor, account)
    assert report.capability == limited
    await account.close(limit_seconds=1)
