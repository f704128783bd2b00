"""Short simulations go to their process several at once, and each has its own answer, whatever happens to another."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from qcompute.circuits import sandbox
from qcompute.circuits.parse import describe
from qcompute.circuits.program import JobOptions
from qcompute.circuits.settings import CircuitSettings
from qcompute.errors import CannotRun, SandboxUnavailable
from qcompute.miner.providers import aer
from qcompute.miner.providers.base import JobHandle, ProviderStatus
from qcompute.units import IdempotencyToken
from qcompute.vendor.aer.settings import AerConfig
from tests.providers.test_aer import SLOW

_Answers = Callable[[], list[dict[str, Any] | CannotRun]]


def number(value: int) -> str:
    """A circuit that measures ``value`` in four bits."""
    flips = "".join(f"x q[{bit}];\n" for bit in range(4) if value >> bit & 1)
    return f'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[4];\ncreg c[4];\n{flips}measure q -> c;\n'


class Adapter(aer.AerAdapter):
    """One process, warm; ``batches`` are the sizes of its exchanges."""

    def __init__(self, spool: Path) -> None:
        super().__init__(AerConfig(spool=spool, processes=1))
        self.batches: list[int] = []
        self.begin_many = self._pool.begin_many
        self._pool.begin_many = self._seen  # type: ignore[method-assign]
        self.nobody_takes = self._waiting._changed
        """While a test has it, its jobs gather in the line."""
        self.until_ended(self.submit(number(0), "aer_automatic", 1))

    def _seen(self, requests: Sequence[dict[str, Any]]) -> _Answers:
        self.batches.append(len(requests))
        return self.begin_many(requests)

    def short(self, source: str) -> JobHandle:
        """A job that is taken for a short one, whatever it is."""
        device = self.list_devices()[0]
        circuit = describe(number(1), CircuitSettings())
        job = json.loads(self.prepare(circuit, device, 100, JobOptions()).payload)["aer"]
        assert job["is_short"]
        payload = json.dumps({"aer": job | {"source": source, "language": "openqasm2"}})
        return self.submit(payload, device.device_id, 100, token=IdempotencyToken(str(time.monotonic_ns())))

    def until_ended(self, handle: JobHandle) -> ProviderStatus:
        deadline = time.monotonic() + 60
        while not (word := ProviderStatus.of(self.poll(handle).status)).is_terminal:
            assert time.monotonic() < deadline, f"still {word}"
            time.sleep(0.02)
        return word

    def counts(self, handle: JobHandle) -> dict[str, int]:
        return (self.get_job_receipt(handle).results or {})["measurementCounts"]


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[Adapter]:
    made = Adapter(tmp_path)
    yield made
    made.close()


def test_short_ones_share_an_exchange_and_each_has_its_own_counts_and_times(adapter: Adapter) -> None:
    told: list[str] = []
    adapter.on_end(told.append)
    with adapter.nobody_takes:
        handles = [adapter.short(number(value)) for value in range(10)]
    for value, handle in enumerate(handles):
        assert adapter.until_ended(handle) is ProviderStatus.COMPLETED
        assert adapter.counts(handle) == {f"{value:04b}": 100}
    assert sum(adapter.batches) == 10
    assert max(adapter.batches) == 8
    assert told == [handle.provider_job_id for handle in handles]
    results = [adapter._spool.result(handle.provider_job_id) or {} for handle in handles]
    assert all(one["ended"] <= other["started"] for one, other in pairwise(results))


def test_what_is_not_short_goes_alone(adapter: Adapter) -> None:
    with adapter.nobody_takes:
        handles = [adapter.submit(number(value), "aer_automatic", 100) for value in range(3)]
    assert [adapter.until_ended(handle) for handle in handles] == [ProviderStatus.COMPLETED] * 3
    assert adapter.batches == []


def test_one_that_takes_long_after_all_harms_no_other(adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their process is ended, and each is run alone, for as long as it may."""
    monkeypatch.setattr(sandbox, "TOGETHER_SECONDS", 0.4)
    with adapter.nobody_takes:
        first, slow, last = (adapter.short(source) for source in (number(5), SLOW, number(6)))
    assert adapter.until_ended(first) is ProviderStatus.COMPLETED
    assert adapter.counts(first) == {"0101": 100}
    deadline = time.monotonic() + 60
    while adapter.poll(slow).status != ProviderStatus.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    adapter.cancel(slow)
    assert adapter.until_ended(slow) is ProviderStatus.CANCELLED
    assert adapter.until_ended(last) is ProviderStatus.COMPLETED
    assert adapter.counts(last) == {"0110": 100}
    assert adapter.batches == [3]


@pytest.mark.parametrize("trouble", ["broken", "no process"])
def test_one_cancelled_while_it_was_with_others_is_not_run_after_all(adapter: Adapter, trouble: str) -> None:
    """Who cancels a job that is running leaves it to the worker to write how it ended."""
    there, go = threading.Event(), threading.Event()

    def held(requests: Sequence[dict[str, Any]]) -> _Answers:
        assert len(requests) == 2
        there.set()
        assert go.wait(30)
        if trouble == "broken":
            return list
        raise SandboxUnavailable("no process")

    adapter._pool.begin_many = held  # type: ignore[method-assign]
    with adapter.nobody_takes:
        stays, goes = (adapter.short(number(value)) for value in (1, 2))
    assert there.wait(30)
    assert adapter.poll(goes).status == ProviderStatus.RUNNING
    adapter.cancel(goes)
    go.set()
    assert adapter.until_ended(goes) is ProviderStatus.CANCELLED
    assert adapter.until_ended(stays) is ProviderStatus.COMPLETED
    assert adapter.counts(stays) == {"0001": 100}


def test_without_a_process_that_waits_for_work_each_goes_alone(
    adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new process takes a second to start, in which another worker may have one."""
    monkeypatch.setattr(sandbox.SandboxPool, "has_idle", property(lambda _: False))
    with adapter.nobody_takes:
        handles = [adapter.short(number(value)) for value in range(3)]
    assert [adapter.until_ended(handle) for handle in handles] == [ProviderStatus.COMPLETED] * 3
    assert adapter.batches == []
