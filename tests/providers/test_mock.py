"""The mock's misdeeds happen as told, and what it promises holds when it is opened again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.errors import SubmitUnknown
from qcompute.miner.providers import mock
from qcompute.miner.providers.base import (
    Absent,
    BaseExecutionStatus,
    CannotTell,
    Found,
    JobHandle,
    ProviderAdapter,
    ProviderStatus,
)
from qcompute.miner.providers.registry import open_adapter
from qcompute.testing.provider_contract import ASYMMETRIC
from qcompute.units import Counts, IdempotencyToken

Open = Callable[..., ProviderAdapter]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Clock:
    """The mock's time, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(mock, "time", made)
    return made


@pytest.fixture
def opened() -> Iterator[Open]:
    made: list[ProviderAdapter] = []

    def open_mock(**settings: Any) -> ProviderAdapter:
        made.append(open_adapter("mock", settings))
        return made[-1]

    yield open_mock
    for adapter in made:
        adapter.close()


def submit(
    adapter: ProviderAdapter, token: str = "t-1", circuit: CompiledCircuit = ASYMMETRIC, **options: Any
) -> JobHandle:
    device = adapter.list_devices()[0]
    payload = adapter.prepare(circuit, device, 100, JobOptions(**options)).payload
    call: Callable[..., JobHandle] = adapter.submit
    return call(payload, device.device_id, 100, token=IdempotencyToken(token))


def counts(adapter: ProviderAdapter, handle: JobHandle) -> Counts:
    results = adapter.get_job_receipt(handle).results
    assert results is not None
    return results["measurementCounts"]


def word(adapter: ProviderAdapter, handle: JobHandle) -> str:
    return adapter.poll(handle).status


def test_jobs_queue_then_run_then_complete(clock: Clock, opened: Open) -> None:
    adapter = opened(queue_seconds=10, run_seconds=5)
    handle = submit(adapter)
    assert adapter.poll(handle) == BaseExecutionStatus(status="QUEUED", eta_seconds=15)
    clock.sleep(11)
    assert adapter.poll(handle) == BaseExecutionStatus(status="RUNNING", eta_seconds=4)
    assert adapter.get_job_receipt(handle).results is None
    clock.sleep(5)
    assert word(adapter, handle) == "COMPLETED"
    assert adapter.get_job_receipt(handle).cost == pytest.approx(0.13)


@pytest.mark.usefixtures("clock")
def test_nothing_is_foretold_when_told_not_to(opened: Open) -> None:
    adapter = opened(run_seconds=5, foretell=False)
    assert adapter.poll(submit(adapter)).eta_seconds is None


def test_every_call_takes_the_latency(clock: Clock, opened: Open) -> None:
    adapter = opened(latency_seconds=3)
    before = clock.now
    handle = submit(adapter)
    adapter.poll(handle)
    assert clock.now == before + 6


def test_counts_depend_on_seed_circuit_and_option_and_on_nothing_else(opened: Open) -> None:
    one, again, other = (opened(run_seconds=0, seed=seed) for seed in (1, 1, 2))
    first = counts(one, submit(one))
    assert first == counts(again, submit(again, "another-token"))
    assert first != counts(other, submit(other))
    assert first != counts(one, submit(one, "t-2", seed=5))
    assert first != counts(one, submit(one, "t-3", ASYMMETRIC.model_copy(update={"sha256": "11" * 32})))


@pytest.mark.parametrize("width", [1, 5, 4096])
def test_counts_have_the_circuits_width_and_shots(opened: Open, width: int) -> None:
    adapter = opened(run_seconds=0)
    seen = counts(adapter, submit(adapter, circuit=ASYMMETRIC.model_copy(update={"num_clbits": width})))
    assert {len(key) for key in seen} == {width}
    assert sum(seen.values()) == 100


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("OPENQASM 2.0; qreg q[9]; creg a[1]; creg b[2];", 3),
        ("OPENQASM 3.0; qubit[9] q; bit[4] c; bit d;", 5),
        ("OPENQASM 3.0; qubit[2] q; bit[2] c = measure q;", 2),
    ],
)
def test_plain_openqasm_as_the_reference_passes_it_is_understood(opened: Open, text: str, width: int) -> None:
    adapter = opened(run_seconds=0)
    assert {len(key) for key in counts(adapter, adapter.submit(text, None, 10))} == {width}


def test_its_cloud_outlives_it_and_every_submit_is_a_row(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "cloud.sqlite"
    first = opened(run_seconds=0, state_path=path)
    handle = submit(first)
    before = counts(first, handle)
    first.close()
    again = opened(run_seconds=0, state_path=path)
    assert counts(again, handle) == before
    assert submit(again) == handle
    assert submit(again, "t-2") != handle
    with sqlite3.connect(path) as cloud:
        assert cloud.execute("SELECT count(*) FROM submits").fetchone() == (3,)
        assert cloud.execute("SELECT count(*) FROM jobs").fetchone() == (2,)
    cloud.close()


def test_circuits_submitted_together_are_one_job_and_come_back_apart(opened: Open, tmp_path: Path) -> None:
    settings = {"state_path": tmp_path / "cloud.sqlite", "max_pack": 2, "run_seconds": 0}
    first, again, token = opened(**settings), opened(**settings), IdempotencyToken("pack")
    device = first.list_devices()[0]
    circuits = [ASYMMETRIC.model_copy(update={"num_clbits": width, "sha256": f"{width}" * 64}) for width in (2, 3)]
    pack = [first.prepare(circuit, device, 100, JobOptions()) for circuit in circuits]
    handles = first.submit_many(pack, device.device_id, 100, token=token)
    assert [handle.pack_index for handle in handles] == [0, 1]
    assert first.submit_many(pack, device.device_id, 100, token=token) == handles, "by its token it is the same job"
    assert first.find(token, LONG_AGO) == Found(handles=[handles[0].model_copy(update={"pack_index": None})])
    seen = [counts(again, handle) for handle in handles]
    assert [{len(key) for key in one} for one in seen] == [{2}, {3}]
    assert [sum(one.values()) for one in seen] == [100, 100]
    (alone,) = first.submit_many(pack[1:], device.device_id, 100, token=IdempotencyToken("alone"))
    assert (alone.pack_index, counts(again, alone)) == (None, seen[1])


@pytest.mark.parametrize("kind", ["tag", "scan"])
def test_a_second_submit_is_a_second_job_where_the_vendor_does_not_look(opened: Open, kind: str) -> None:
    adapter = opened(idempotency=kind)
    first, second = submit(adapter), submit(adapter)
    assert first != second
    found = adapter.find(IdempotencyToken("t-1"), LONG_AGO)
    assert found == Found(handles=[first, second])


def test_an_answer_is_lost_as_often_as_told_and_the_job_is_there(opened: Open) -> None:
    adapter = opened(lose_submit_answers=2)
    for token in ("t-1", "t-2"):
        with pytest.raises(SubmitUnknown):
            submit(adapter, token)
        assert isinstance(adapter.find(IdempotencyToken(token), LONG_AGO), Found)
    assert adapter.find(IdempotencyToken("t-3"), LONG_AGO) == Absent()
    assert submit(adapter, "t-3").provider_job_id == "mock-000003"


def test_a_vendor_that_lags_does_not_see_a_young_job(clock: Clock, opened: Open) -> None:
    adapter = opened(lag_seconds=30)
    handle = submit(adapter)
    assert adapter.find(IdempotencyToken("t-1"), LONG_AGO) == Absent()
    clock.sleep(31)
    assert adapter.find(IdempotencyToken("t-1"), LONG_AGO) == Found(handles=[handle])


def test_jobs_before_the_time_asked_for_are_not_found(clock: Clock, opened: Open) -> None:
    adapter = opened()
    submit(adapter)
    later = datetime.fromtimestamp(clock.now, UTC) + timedelta(seconds=1)
    assert adapter.find(IdempotencyToken("t-1"), later) == Absent()


def test_without_a_way_to_look_it_says_so(opened: Open) -> None:
    adapter = opened(idempotency="none")
    submit(adapter)
    assert isinstance(adapter.find(IdempotencyToken("t-1"), LONG_AGO), CannotTell)


def test_a_part_of_all_jobs_fails_and_stays_failed(opened: Open) -> None:
    adapter = opened(run_seconds=0, fail_rate=0.5)
    circuits = [ASYMMETRIC.model_copy(update={"sha256": f"{number:064x}"}) for number in range(60)]
    handles = [submit(adapter, f"t-{number}", circuit) for number, circuit in enumerate(circuits)]
    words = [status.status for status in adapter.poll_many(handles)]
    assert 15 < words.count("FAILED") < 45
    assert set(words) == {"FAILED", "COMPLETED"}
    assert words == [status.status for status in adapter.poll_many(handles)]
    failed = adapter.get_job_receipt(handles[words.index("FAILED")])
    assert (failed.status, failed.results, failed.cost) == ("FAILED", None, None)
    assert (failed.metadata or {})["message"] == "the mock was told to fail this job"


def test_a_word_outside_the_contract_is_unknown(opened: Open) -> None:
    adapter = opened(run_seconds=0, unknown_status=True)
    handle = submit(adapter)
    assert word(adapter, handle) == "EVAPORATED"
    assert ProviderStatus.of(word(adapter, handle)) is ProviderStatus.UNKNOWN


def test_a_cancelled_job_stays_cancelled(clock: Clock, opened: Open) -> None:
    adapter = opened(run_seconds=5)
    handle = submit(adapter)
    adapter.cancel(handle)
    clock.sleep(10)
    assert word(adapter, handle) == "CANCELLED"
    assert adapter.get_job_receipt(handle).results is None


def test_both_devices_can_be_down(opened: Open) -> None:
    for offline, expected in ((False, "ONLINE"), (True, "MAINTENANCE")):
        adapter = opened(offline=offline)
        for device in adapter.list_devices():
            availability = adapter.get_availability(device.device_id)
            assert availability is not None
            assert (availability.availability, availability.is_available) == (expected, not offline)
        assert adapter.get_availability("no-such-device") is None


def test_jobs_under_way_are_pending(clock: Clock, opened: Open) -> None:
    adapter = opened(run_seconds=5)
    adapter.cancel(submit(adapter, "t-1"))
    submit(adapter, "t-2")
    availability = adapter.get_availability()
    assert availability is not None
    assert availability.pending_jobs == 1
    clock.sleep(6)
    availability = adapter.get_availability()
    assert availability is not None
    assert availability.pending_jobs == 0
