"""What every adapter must do, as tests to inherit.

::

    class TestAcme(ProviderContract):
        @pytest.fixture
        def adapter(self) -> Iterator[ProviderAdapter]:
            adapter = AcmeAdapter(AcmeConfig(...))
            yield adapter
            adapter.close()

Say in class attributes what is different: ``computes`` (it really runs circuits), ``noisy`` (not every shot is right,
as on a real quantum computer), ``module`` (its dotted name), ``distribution`` (the installed package it belongs to),
``secrets`` (what the fixture configures and nobody may read), ``ends_within_seconds``.

An adapter that talks to a vendor over HTTP also gives a ``vendor`` fixture (a `FaultyVendor` its ``adapter`` talks to)
and ``calls``: for each verb the requests that are its own, as a pattern of ``METHOD /path``. Then every fault of
`qcompute.testing.vendor_faults` is tried on every one of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.metadata import metadata, packages_distributions, requires
from typing import Any, ClassVar, Final

import pytest

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.measurement import Register
from qcompute.circuits.program import CompiledCircuit, JobOptions, Language
from qcompute.circuits.settings import CircuitSettings
from qcompute.errors import CannotRun, QComputeError, SubmitUnknown, VendorError
from qcompute.miner.providers.base import (
    Absent,
    BaseExecutionStatus,
    CannotTell,
    Device,
    Found,
    Idempotency,
    JobHandle,
    JobReceipt,
    Prepared,
    ProviderAdapter,
    ProviderStatus,
    Verb,
    submit_takes,
    tells_ends,
)
from qcompute.testing.vendor_faults import FAULTS, FaultyVendor, VendorFault
from qcompute.units import Counts, IdempotencyToken

_NAME: Final = re.compile(r"[^A-Za-z0-9._-]")
_HEAD: Final = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
SHOTS: Final = 200

_BLOCKER: Final = """
import importlib.abc, importlib, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
importlib.import_module({module!r})
"""


def compiled(
    source: str, registers: tuple[tuple[str, int], ...], measured: tuple[tuple[int, int], ...]
) -> CompiledCircuit:
    """A circuit as the sandbox would describe it; ``measured`` are (clbit, qubit)."""
    clbits = sum(size for _, size in registers)
    return CompiledCircuit(
        source=source,
        language=Language.OPENQASM_2,
        sha256=hashlib.sha256(source.encode()).hexdigest(),
        num_qubits=3,
        num_clbits=clbits,
        registers=tuple(Register(name=name, size=size) for name, size in registers),
        measured=measured,
        gate_counts={"x": 1, "measure": len(measured)},
        depth=2,
        num_ops=1 + len(measured),
    )


ASYMMETRIC: Final = compiled(
    _HEAD + "qreg q[3];\ncreg a[1];\ncreg b[2];\nx q[0];\nmeasure q[2] -> a[0];\nmeasure q[0] -> b[0];\n"
    "measure q[1] -> b[1];\n",
    (("a", 1), ("b", 2)),
    ((0, 2), (1, 0), (2, 1)),
)
"""One bit set, in the middle of the key: every reversal shows."""


MIRRORED: Final = compiled(
    _HEAD + "qreg q[3];\ncreg a[1];\ncreg b[2];\nx q[1];\nmeasure q[2] -> a[0];\nmeasure q[0] -> b[0];\n"
    "measure q[1] -> b[1];\n",
    (("a", 1), ("b", 2)),
    ((0, 2), (1, 0), (2, 1)),
)
"""Another bit set: it cannot be taken for the other circuit's result."""


def fresh(word: str) -> str:
    """A token nobody has used, also not in an earlier test on the same vendor."""
    return f"{word[:40]}-{uuid.uuid4().hex[:12]}"


@cache
def compiler() -> CircuitCompiler:
    """The sandbox, one for a test run; its processes end when idle and with this one."""
    return CircuitCompiler(CircuitSettings())


class ProviderContract:
    """Inherit, give an ``adapter`` fixture, and run."""

    computes: ClassVar[bool] = True
    noisy: ClassVar[bool] = False
    module: ClassVar[str] = ""
    distribution: ClassVar[str] = "qcompute"
    secrets: ClassVar[tuple[str, ...]] = ()
    ends_within_seconds: ClassVar[float] = 60.0
    calls: ClassVar[Mapping[Verb, str]] = {}

    @pytest.fixture
    def vendor(self) -> FaultyVendor | None:
        """The double behind ``adapter``; None where there is no network."""
        return None

    def device(self, adapter: ProviderAdapter) -> Device:
        """The device the contract runs on: the first."""
        return adapter.list_devices()[0]

    def submit(self, adapter: ProviderAdapter, token: str = "contract-token", **options: Any) -> JobHandle:  # noqa: ANN401, S107 - options of the job; no secret
        """Submit the asymmetric circuit as the runner does; the handle is as the daemon would store it."""
        prepared = self.prepared(adapter, **options)
        return self.submit_pack(adapter, [prepared], token)[0]

    def prepared(self, adapter: ProviderAdapter, circuit: CompiledCircuit | None = None, **options: Any) -> Prepared:  # noqa: ANN401 - as above
        """The circuit (the asymmetric one) made ready for the device, in the real sandbox where it is translated."""
        device = self.device(adapter)
        wishes = JobOptions(**options)
        circuit = circuit or ASYMMETRIC
        adapter.check(circuit, device, SHOTS)
        target = adapter.target(device, wishes)
        if target is not None:
            circuit = compiler().translate(circuit, target, wishes.optimization_level)
        return adapter.prepare(circuit, device, SHOTS, wishes)

    def submit_pack(self, adapter: ProviderAdapter, pack: list[Prepared], token: str) -> list[JobHandle]:
        """Submit as the runner does: together where the vendor packs, else the only one."""
        device_id = self.device(adapter).device_id
        if adapter.limits().max_pack > 1:
            handles = adapter.submit_many(pack, device_id, SHOTS, token=IdempotencyToken(token))
        else:
            passed = {"token": IdempotencyToken(token), "options": pack[0].options}
            extra: dict[str, Any] = {name: passed[name] for name in submit_takes(adapter)}
            handles = [adapter.submit(pack[0].payload, device_id, SHOTS, **extra)]
        return [
            handle.model_copy(
                update={"measurement": one.measurement, "pack_index": index if len(pack) > 1 else handle.pack_index}
            )
            for index, (handle, one) in enumerate(zip(handles, pack, strict=True))
        ]

    def ended(self, adapter: ProviderAdapter, handle: JobHandle) -> JobReceipt:
        """Poll until the job has ended, and fetch its receipt."""
        deadline = time.monotonic() + self.ends_within_seconds
        while not ProviderStatus.of(adapter.poll(handle).status).is_terminal:
            assert time.monotonic() < deadline, "the job does not end"
            time.sleep(0.02)
        return adapter.get_job_receipt(handle)

    def counted(self, receipt: JobReceipt, key: str) -> None:
        """Every shot gave ``key``; of a noisy machine, more than gave any other."""
        counts = self.counts(receipt)
        if self.noisy:
            assert max(counts, key=lambda other: counts[other]) == key, counts
        else:
            assert counts == {key: SHOTS}

    @staticmethod
    def counts(receipt: JobReceipt) -> Counts:
        """The counts of a receipt."""
        assert receipt.results is not None
        return receipt.results["measurementCounts"]

    def test_counts_add_up_to_the_shots_and_have_the_circuits_width(self, adapter: ProviderAdapter) -> None:
        """Every shot is counted, each key has a character for each classical bit."""
        receipt = self.ended(adapter, self.submit(adapter))
        counts = self.counts(receipt)
        assert receipt.status == ProviderStatus.COMPLETED
        if self.computes or "token" in submit_takes(adapter):
            assert self.noisy or sum(counts.values()) == SHOTS
            assert 0 < sum(counts.values()) <= SHOTS
            assert {len(key) for key in counts} == {3}

    def test_bits_and_registers_are_in_the_one_order(self, adapter: ProviderAdapter) -> None:
        """The register declared last is leftmost, bit 0 of each is rightmost."""
        if self.computes:
            self.counted(self.ended(adapter, self.submit(adapter)), "010")

    def test_the_source_of_the_counts_is_said(self, adapter: ProviderAdapter) -> None:
        """Measured, or derived."""
        metadata = self.ended(adapter, self.submit(adapter)).metadata or {}
        assert metadata.get("counts_source", "measured") in ("measured", "sampled")

    def test_the_same_token_twice_is_one_job_where_that_is_promised(self, adapter: ProviderAdapter) -> None:
        """TOKEN and CLIENT_ID promise it."""
        first, second = self.submit(adapter), self.submit(adapter)
        if adapter.idempotency in (Idempotency.TOKEN, Idempotency.CLIENT_ID):
            assert first.provider_job_id == second.provider_job_id
        self.ended(adapter, first)

    def test_a_submitted_job_can_be_found_as_declared(self, adapter: ProviderAdapter) -> None:
        """By its token, since before it was submitted."""
        token = fresh("find")
        handle = self.submit(adapter, token)
        answer = adapter.find(IdempotencyToken(token), datetime.now(UTC) - timedelta(minutes=5))
        if adapter.idempotency is Idempotency.NONE:
            assert isinstance(answer, CannotTell)
        else:
            assert isinstance(answer, Found)
            assert answer.handles[0].provider_job_id == handle.provider_job_id
        self.ended(adapter, handle)

    def test_a_token_never_used_is_absent(self, adapter: ProviderAdapter) -> None:
        """Absent is an answer, not an error."""
        answer = adapter.find(IdempotencyToken("contract-never"), datetime.now(UTC) - timedelta(minutes=5))
        assert isinstance(answer, CannotTell if adapter.idempotency is Idempotency.NONE else Absent)

    def test_a_result_is_the_same_at_every_fetch(self, adapter: ProviderAdapter) -> None:
        """Counts above all."""
        handle = self.submit(adapter)
        assert self.ended(adapter, handle) == adapter.get_job_receipt(handle)

    def test_an_end_is_the_end(self, adapter: ProviderAdapter) -> None:
        """Cancelling what has completed changes nothing."""
        handle = self.submit(adapter)
        self.ended(adapter, handle)
        adapter.cancel(handle)
        adapter.cancel(handle)
        assert adapter.poll(handle).status == ProviderStatus.COMPLETED

    def test_an_end_is_told_when_it_can_be_seen(self, adapter: ProviderAdapter) -> None:
        """Where that is offered, of a job that completes and of one that is cancelled: nobody has to poll for it."""
        if not tells_ends(adapter):
            return
        told: list[str] = []
        adapter.on_end(told.append)
        try:
            for token, cancels in ((fresh("told"), False), (fresh("told-off"), True)):
                handle = self.submit(adapter, token)
                if cancels:
                    adapter.cancel(handle)
                deadline = time.monotonic() + self.ends_within_seconds
                while handle.provider_job_id not in told:
                    assert time.monotonic() < deadline, "nobody is told that the job has ended"
                    time.sleep(0.02)
                assert ProviderStatus.of(adapter.poll(handle).status).is_terminal
        finally:
            adapter.on_end(lambda _: None)

    def test_cancelling_ends_a_job_one_way_or_the_other(self, adapter: ProviderAdapter) -> None:
        """It may still complete; it must not hang."""
        handle = self.submit(adapter, fresh("cancel"))
        adapter.cancel(handle)
        assert self.ended(adapter, handle).status in (ProviderStatus.CANCELLED, ProviderStatus.COMPLETED)

    def test_what_was_cancelled_stays_so(self, adapter: ProviderAdapter) -> None:
        """Its receipt too: no results where there was none, and none appear later."""
        handle = self.submit(adapter, fresh("cancelled"))
        adapter.cancel(handle)
        receipt = self.ended(adapter, handle)
        adapter.cancel(handle)
        assert adapter.poll(handle).status == receipt.status
        assert adapter.get_job_receipt(handle) == receipt
        assert (receipt.results is not None) == (receipt.status == ProviderStatus.COMPLETED)

    def test_cancelling_a_job_it_does_not_know_harms_nobody(self, adapter: ProviderAdapter) -> None:
        """The vendor may have forgotten it; the other jobs go on."""
        handle = self.submit(adapter, fresh("bystander"))
        stranger = JobHandle(provider_job_id="never-existed", device_id=handle.device_id)
        with contextlib.suppress(QComputeError):
            adapter.cancel(stranger)
        assert self.ended(adapter, handle).status == ProviderStatus.COMPLETED

    def test_a_receipt_is_of_its_job_and_says_what_it_cost(self, adapter: ProviderAdapter) -> None:
        """In a named currency; never less than nothing."""
        handle = self.submit(adapter)
        receipt = self.ended(adapter, handle)
        assert receipt.provider_job_id == handle.provider_job_id
        assert receipt.device_id == handle.device_id
        assert receipt.shots in (SHOTS, None)
        assert receipt.cost is None or receipt.cost >= 0
        currency = (receipt.metadata or {}).get("currency", "USD")
        assert len(currency) == len("USD")
        assert currency.isupper()

    def test_what_it_is_expected_to_cost_follows_its_prices(self, adapter: ProviderAdapter) -> None:
        """A budget is held against this before anything is paid: more shots never cost less."""
        device = self.device(adapter)
        prepared = self.prepared(adapter)
        few, many = adapter.estimate(prepared, device, SHOTS), adapter.estimate(prepared, device, 10 * SHOTS)
        assert (few is None) == (many is None)
        if few is not None and many is not None:
            assert few.currency == many.currency
            assert 0 <= few.amount <= many.amount

    def test_circuits_submitted_together_come_back_apart(self, adapter: ProviderAdapter) -> None:
        """Where a vendor's job may hold several circuits, each handle leads to its own counts."""
        if adapter.limits().max_pack == 1:
            return
        pack = [self.prepared(adapter), self.prepared(adapter, MIRRORED)]
        first, second = self.submit_pack(adapter, pack, fresh("pack"))
        assert first.provider_job_id == second.provider_job_id
        self.counted(self.ended(adapter, first), "010")
        self.counted(self.ended(adapter, second), "100")

    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
    def test_a_submit_that_fails_never_makes_two(
        self, adapter: ProviderAdapter, vendor: FaultyVendor | None, fault: VendorFault
    ) -> None:
        """One request at most, one job at most; where one may be, the error says so, and it is found."""
        if vendor is None or Verb.SUBMIT not in self.calls:
            return
        prepared = self.prepared(adapter)
        created, asked, token = vendor.created, self._asked(vendor, Verb.SUBMIT), fresh(fault.slug)
        vendor.faults.append(fault.ordered(self.calls[Verb.SUBMIT]))
        allowed = fault.submit if fault.provable else (*fault.submit, SubmitUnknown)
        with pytest.raises(VendorError) as raised:
            self.submit_pack(adapter, [prepared], token)
        assert isinstance(raised.value, allowed), repr(raised.value)
        assert self._asked(vendor, Verb.SUBMIT) - asked <= 1
        assert vendor.created - created == fault.creates
        answer = adapter.find(IdempotencyToken(token), datetime.now(UTC) - timedelta(minutes=5))
        if adapter.idempotency is Idempotency.NONE:
            assert isinstance(answer, CannotTell)
        elif fault.creates:
            assert isinstance(answer, Found)
            assert len(answer.handles) == 1
            handle = answer.handles[0].model_copy(update={"measurement": prepared.measurement})
            self.counted(self.ended(adapter, handle), "010")
        else:
            assert isinstance(answer, Absent)

    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
    @pytest.mark.parametrize("verb", [Verb.POLL, Verb.RECEIPT, Verb.CANCEL])
    def test_a_free_call_that_fails_may_be_made_again(
        self, adapter: ProviderAdapter, vendor: FaultyVendor | None, verb: Verb, fault: VendorFault
    ) -> None:
        """It says that the vendor failed, not that the job did; the next call is right again."""
        if vendor is None or verb not in self.calls:
            return
        handle = self.submit(adapter, fresh(verb))
        if verb is not Verb.CANCEL:
            self.ended(adapter, handle)
        call = {Verb.POLL: adapter.poll, Verb.RECEIPT: adapter.get_job_receipt, Verb.CANCEL: adapter.cancel}[verb]
        vendor.faults.append(fault.ordered(self.calls[verb]))
        try:
            met = call(handle)
        except VendorError as error:
            assert not isinstance(error, SubmitUnknown)  # noqa: PT017 - raising is one of the right answers
        else:
            assert not isinstance(met, BaseExecutionStatus) or met.status in (
                ProviderStatus.COMPLETED,
                ProviderStatus.UNKNOWN,
            )
        vendor.faults.clear()
        if verb is Verb.CANCEL:
            adapter.cancel(handle)
        receipt = self.ended(adapter, handle)
        if receipt.status == ProviderStatus.COMPLETED:
            self.counted(receipt, "010")

    def _asked(self, vendor: FaultyVendor, verb: Verb) -> int:
        return sum(bool(re.search(self.calls[verb], f"{one.method} {one.path}")) for one in vendor.asked)

    def test_the_account_bears_something(self, adapter: ProviderAdapter) -> None:
        """Limits are positive, and the same at every call."""
        limits = adapter.limits()
        assert limits == adapter.limits()
        assert limits.max_poll_batch >= 1
        assert limits.poll_interval_seconds > 0
        assert limits.max_pack >= 1
        assert limits.max_running_jobs is None or limits.max_running_jobs > 0
        assert all(rate.per_second > 0 and rate.burst >= 1 for rate in limits.rates.values())

    def test_its_secrets_are_not_shown(self, adapter: ProviderAdapter) -> None:
        """Not by ``repr``, not in records, not in errors."""
        handle = self.submit(adapter)
        shown = [repr(adapter), str(adapter), repr(handle), repr(self.ended(adapter, handle))]
        shown += [repr(adapter.list_devices()), repr(adapter.list_capabilities()), repr(adapter.get_availability())]
        try:
            adapter.submit(ASYMMETRIC.source, "no-such-device", SHOTS)
        except QComputeError as error:
            shown += [str(error), repr(error)]
        for secret in self.secrets:
            assert not [text for text in shown if secret in text]

    def test_a_job_it_does_not_know_is_unknown_and_not_failed(self, adapter: ProviderAdapter) -> None:
        """A failed job is told to the user; an unknown one is looked into."""
        stranger = JobHandle(provider_job_id="never-existed", device_id=self.device(adapter).device_id)
        assert ProviderStatus.of(adapter.poll(stranger).status) is ProviderStatus.UNKNOWN

    def test_many_are_polled_in_order(self, adapter: ProviderAdapter) -> None:
        """One status for each handle."""
        handle = self.submit(adapter)
        self.ended(adapter, handle)
        stranger = JobHandle(provider_job_id="never-existed", device_id=handle.device_id)
        words = [ProviderStatus.of(status.status) for status in adapter.poll_many([handle, stranger, handle])]
        assert words == [ProviderStatus.COMPLETED, ProviderStatus.UNKNOWN, ProviderStatus.COMPLETED]

    def test_devices_capabilities_and_prices_agree_and_are_stable(self, adapter: ProviderAdapter) -> None:
        """Ids are unique, each has a capability, prices have known names and are not negative."""
        devices = adapter.list_devices()
        assert devices == adapter.list_devices()
        assert len({device.device_id for device in devices}) == len(devices) > 0
        assert len(adapter.list_capabilities()) == len(devices)
        for device in devices:
            capability = adapter.get_capability(device.device_id)
            assert capability is not None
            assert (capability.num_qubits or 1) >= 1
            assert device.device_type in ("QPU", "SIMULATOR")
            prices = adapter.get_pricing(device.device_id) or {}
            assert set(prices) <= {"perTask", "perShot", "perMinute"}
            assert all(price >= 0 for price in prices.values())

    def test_availability_is_in_the_contracts_words(self, adapter: ProviderAdapter) -> None:
        """Or not known at all."""
        availability = adapter.get_availability(self.device(adapter).device_id)
        if availability is not None:
            assert availability.availability in ("ONLINE", "OFFLINE", "DEGRADED", "MAINTENANCE", None)

    def test_a_circuit_too_wide_is_refused_with_the_limit(self, adapter: ProviderAdapter) -> None:
        """Before anything is paid."""
        device = self.device(adapter)
        capability = adapter.get_capability(device.device_id)
        if capability is None or capability.num_qubits is None:
            return
        wide = ASYMMETRIC.model_copy(update={"num_qubits": capability.num_qubits + 1})
        with pytest.raises(CannotRun, match=str(capability.num_qubits)):
            adapter.check(wide, device, SHOTS)

    def test_its_module_is_imported_without_its_sdk(self, adapter: ProviderAdapter) -> None:
        """The registry reads class attributes of all adapters; none may pull an SDK in."""
        module = self.module or type(adapter).__module__
        blocked = {"qiskit", "qiskit_aer", "qiskit_ibm_runtime", *type(adapter).requires}
        script = _BLOCKER.format(blocked=blocked, module=module)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        assert done.returncode == 0, done.stderr

    def test_what_it_requires_is_an_extra(self, adapter: ProviderAdapter) -> None:
        """``pip install 'qcompute[extra]'`` must bring what ``requires`` names."""
        extra = type(adapter).extra
        if type(adapter).requires:
            assert extra in (metadata(self.distribution).get_all("Provides-Extra") or [])
        wanted = requires(self.distribution) or []
        brought = {_NAME.split(line, maxsplit=1)[0].lower() for line in wanted if f"extra == '{extra}'" in line}
        for module in type(adapter).requires:
            distributions = packages_distributions().get(module.partition(".")[0], [])
            assert brought & {name.lower() for name in distributions}, f"[{extra}] does not bring {module}"

    def test_errors_are_of_the_tree(self, adapter: ProviderAdapter) -> None:
        """A submit to a device that does not exist is refused, or may have been paid; nothing else."""
        try:
            handle = adapter.submit(ASYMMETRIC.source, "no-such-device", SHOTS)
        except QComputeError:
            return
        assert handle.provider_job_id
