"""The contract finds what it is for: each adapter here is wrong in one way, and one test of the contract says so."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from types import SimpleNamespace as Record
from typing import Any, ClassVar

import pytest

from qcompute.miner.providers.base import (
    Absent,
    Found,
    Idempotency,
    JobHandle,
    ProviderAdapter,
)
from qcompute.miner.providers.registry import as_adapter
from qcompute.testing.provider_contract import ProviderContract
from tests.providers.reference_style import MyQpuAdapter


class TestsOfRight(ProviderContract):
    __test__ = False
    ends_within_seconds = 1.0
    module = "tests.providers.reference_style"
    secrets = ("hunter2",)


class ReversedBits(MyQpuAdapter):
    def get_job_receipt(self, handle: Any) -> Any:
        receipt = super().get_job_receipt(handle)
        if receipt.results:
            receipt.results = {"measurementCounts": {"01": receipt.shots}}
        return receipt


class LosesShots(MyQpuAdapter):
    def get_job_receipt(self, handle: Any) -> Any:
        receipt = super().get_job_receipt(handle)
        if receipt.results:
            receipt.results = {"measurementCounts": {"010": receipt.shots - 1}}
        return receipt


class DrawsAnew(MyQpuAdapter):
    numbers = itertools.count()

    def get_job_receipt(self, handle: Any) -> Any:
        receipt = super().get_job_receipt(handle)
        if receipt.results:
            receipt.results = {"measurementCounts": {f"{next(self.numbers) % 8:03b}": receipt.shots}}
        return receipt


class FailsStrangers(MyQpuAdapter):
    def poll(self, handle: Any) -> Any:
        status = super().poll(handle)
        return Record(status="FAILED", eta_seconds=None) if status.status == "UNKNOWN" else status


class CancelsWhatHasEnded(MyQpuAdapter):
    def cancel(self, handle: Any) -> None:
        if handle.provider_job_id in self._jobs:
            self._jobs[handle.provider_job_id]["cancelled"] = True


class CancelsEverything(MyQpuAdapter):
    def cancel(self, handle: Any) -> None:
        del handle
        for job in self._jobs.values():
            job["cancelled"] = True


class NeverEnds(MyQpuAdapter):
    def poll(self, handle: Any) -> Any:
        del handle
        return Record(status="RUNNING", eta_seconds=None)


class NewDeviceEachTime(MyQpuAdapter):
    def list_devices(self) -> list[Any]:
        return [Record(device_id=f"d-{time.monotonic_ns()}", provider="me", vendor="me", device_type="QPU")]


class PricesOfItsOwn(MyQpuAdapter):
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        del device_id
        return {"perBeer": 5.0}


class PaysYou(MyQpuAdapter):
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        del device_id
        return {"perTask": 1.0, "perShot": -1.0}


class UnheardOfAvailability(MyQpuAdapter):
    def get_availability(self, device_id: str | None = None) -> Any:
        del device_id
        return Record(availability="PERHAPS", pending_jobs=0, is_available=True)


class RaisesItsOwn(MyQpuAdapter):
    def submit(self, circuit_data: str, device_id: str | None = None, shots: int | None = None) -> Any:
        if device_id != "my_qpu":
            raise LookupError(device_id)
        return super().submit(circuit_data, device_id, shots)


class TellsItsKey(MyQpuAdapter):
    def get_availability(self, device_id: str | None = None) -> Any:
        del device_id
        return Record(availability="ONLINE", pending_jobs=0, is_available=True, status_msg="key hunter2 accepted")


@pytest.mark.parametrize(
    ("wrong", "test"),
    [
        (ReversedBits, TestsOfRight.test_bits_and_registers_are_in_the_one_order),
        (LosesShots, TestsOfRight.test_counts_add_up_to_the_shots_and_have_the_circuits_width),
        (DrawsAnew, TestsOfRight.test_a_result_is_the_same_at_every_fetch),
        (FailsStrangers, TestsOfRight.test_a_job_it_does_not_know_is_unknown_and_not_failed),
        (FailsStrangers, TestsOfRight.test_many_are_polled_in_order),
        (CancelsWhatHasEnded, TestsOfRight.test_an_end_is_the_end),
        (CancelsEverything, TestsOfRight.test_cancelling_a_job_it_does_not_know_harms_nobody),
        (NeverEnds, TestsOfRight.test_cancelling_ends_a_job_one_way_or_the_other),
        (NewDeviceEachTime, TestsOfRight.test_devices_capabilities_and_prices_agree_and_are_stable),
        (PricesOfItsOwn, TestsOfRight.test_devices_capabilities_and_prices_agree_and_are_stable),
        (PaysYou, TestsOfRight.test_what_it_is_expected_to_cost_follows_its_prices),
        (UnheardOfAvailability, TestsOfRight.test_availability_is_in_the_contracts_words),
        (TellsItsKey, TestsOfRight.test_its_secrets_are_not_shown),
    ],
)
def test_what_is_wrong_is_found(
    wrong: Callable[[], object], test: Callable[[ProviderContract, ProviderAdapter], None]
) -> None:
    with pytest.raises(AssertionError):
        test(TestsOfRight(), as_adapter(wrong()))
    test(TestsOfRight(), as_adapter(MyQpuAdapter()))


def test_an_error_of_its_own_is_found() -> None:
    with pytest.raises(LookupError):
        TestsOfRight().test_errors_are_of_the_tree(as_adapter(RaisesItsOwn()))


def inheriting(**attributes: Any) -> ProviderAdapter:
    """The nine methods of the reference in a class that declares more than it keeps."""
    right = as_adapter(MyQpuAdapter())
    methods = {name: getattr(right, name) for name in ProviderAdapter.__abstractmethods__}
    kept = {name: staticmethod(method) for name, method in methods.items()}
    return type("Declaring", (ProviderAdapter,), kept | attributes)()


class Tells:
    """Ways to offer `on_end` without keeping it."""

    @staticmethod
    def nothing(*_: object) -> None:
        return

    @staticmethod
    def too_soon(tell: Callable[[str], None]) -> None:
        """Of the first job of `MyQpuAdapter`, which has not ended."""
        tell("job_1")


class Finds:
    """Ways to answer `find`."""

    handle: ClassVar[JobHandle] = JobHandle(provider_job_id="someone-elses", device_id="my_qpu")

    @staticmethod
    def nothing(*_: object) -> Absent:
        return Absent()

    @classmethod
    def anything(cls, *_: object) -> Found:
        return Found(handles=[cls.handle])


@pytest.mark.parametrize(
    ("attributes", "test"),
    [
        ({"idempotency": Idempotency.TOKEN}, "test_the_same_token_twice_is_one_job_where_that_is_promised"),
        ({"idempotency": Idempotency.TAG, "find": Finds.nothing}, "test_a_submitted_job_can_be_found_as_declared"),
        ({"idempotency": Idempotency.TAG, "find": Finds.anything}, "test_a_token_never_used_is_absent"),
        ({"on_end": staticmethod(Tells.nothing)}, "test_an_end_is_told_when_it_can_be_seen"),
        ({"on_end": staticmethod(Tells.too_soon)}, "test_an_end_is_told_when_it_can_be_seen"),
        ({"find": Finds.nothing}, "test_a_token_never_used_is_absent"),
        ({"requires": ("qiskit_aer",), "extra": "dev"}, "test_what_it_requires_is_an_extra"),
        ({"requires": ("qiskit_aer",), "extra": "no-such-extra"}, "test_what_it_requires_is_an_extra"),
        ({"requires": ("tests",)}, "test_its_module_is_imported_without_its_sdk"),
    ],
)
def test_what_is_declared_and_not_kept_is_found(attributes: dict[str, Any], test: str) -> None:
    with pytest.raises(AssertionError):
        getattr(TestsOfRight(), test)(inheriting(**attributes))
