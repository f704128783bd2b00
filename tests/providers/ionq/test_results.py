"""What IonQ's jobs are asked for, and what comes of them: options, counts from every format, cost before and after."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from qcompute.circuits.measurement import Register
from qcompute.circuits.program import JobOptions
from qcompute.errors import (
    BadReply,
    CannotRun,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers import ionq
from qcompute.miner.providers.base import (
    ProviderStatus,
)
from qcompute.miner.providers.ionq import IonqAdapter
from qcompute.testing.provider_contract import ASYMMETRIC, compiler
from qcompute.units import Money
from qcompute.vendor.prices import Prices
from tests.doubles.ionq import MEASURED, SIMULATED, IonqDouble
from tests.providers.ionq.scene import (
    BELL,
    PROGRAM,
    QPU,
    Adapters,
    conforms,
    device_of,
    ended,
    facts_of,
    named,
    receipt_of,
    submitted,
    translated,
)

# ---- options ----


def test_error_mitigation_goes_to_the_job_and_its_estimate(double: IonqDouble, adapter: IonqAdapter) -> None:
    device = device_of(adapter, QPU)
    measured = ((0, 2), (1, 0), (2, 1))
    circuit = ASYMMETRIC.model_copy(update={"registers": (Register(name="c", size=3),), "measured": measured})
    target = adapter.target(device, JobOptions())
    assert target is not None
    one_register = compiler().translate(
        circuit.model_copy(update={"source": circuit.source.replace("creg a[1];\ncreg b[2];", "creg c[3];")
                                   .replace("-> b[1]", "-> c[2]").replace("-> b[0]", "-> c[1]")
                                   .replace("-> a[0]", "-> c[0]")}),
        target, None,
    )  # fmt: skip
    wishes = JobOptions(passed_on={"error_mitigation": {"debiasing": True}, "shots_per_colour": "blue"})
    prepared = adapter.prepare(one_register, device, 500, wishes)
    handle = adapter.submit(prepared.payload, QPU, 500)
    assert double.jobs[handle.provider_job_id].request["settings"] == {"error_mitigation": {"debiasing": True}}
    conforms(double.jobs[handle.provider_job_id].request, named("CircuitJobCreationPayload"))
    adapter.estimate(prepared, device, 500)
    assert double.questions[-1]["error_mitigation"] == "true"
    with pytest.raises(CannotRun, match="500"):
        adapter.prepare(one_register, device, 499, wishes)


def test_error_mitigation_is_refused_where_it_would_tear_registers_apart(adapter: IonqAdapter) -> None:
    with pytest.raises(CannotRun, match="one register"):
        translated(adapter, device_of(adapter, QPU), error_mitigation={"debiasing": False})
    translated(adapter, device_of(adapter, QPU), error_mitigation={})


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"noise": {"model": "aria-1", "seed": -1}}, r"noise\.seed"),
        ({"noise": {"model": "../x"}}, r"noise\.model"),
        ({"noise": "aria-1"}, "noise"),
        ({"error_mitigation": {"debiasing": "yes"}}, r"error_mitigation\.debiasing"),
        ({"error_mitigation": {"twirling": True}}, r"error_mitigation\.twirling"),
    ],
)
def test_an_option_ionq_has_no_use_for_is_refused_by_name(
    adapter: IonqAdapter, options: dict[str, Any], place: str
) -> None:
    with pytest.raises(CannotRun, match=rf"configuration_data\.{place}") as raised:
        translated(adapter, device_of(adapter, "simulator"), **options)
    assert raised.value.reason == "bad_option"


@pytest.mark.parametrize(
    ("noise", "seed", "sent"),
    [
        ({"model": "aria-1"}, None, {"model": "aria-1"}),
        ({"model": "aria-1"}, 2**40 + 7, {"model": "aria-1", "seed": 7}),
        ({"model": "aria-1", "seed": 5}, 7, {"model": "aria-1", "seed": 5}),
    ],
)
def test_the_seed_is_the_noises(
    double: IonqDouble, adapter: IonqAdapter, noise: dict[str, Any], seed: int | None, sent: dict[str, Any]
) -> None:
    options = JobOptions(seed=seed, passed_on={"noise": noise})
    handle = adapter.submit(PROGRAM, "simulator", 100, options=options)
    assert double.jobs[handle.provider_job_id].request["noise"] == sent
    on_hardware = adapter.submit(PROGRAM, QPU, 100, options=options)
    assert "noise" not in double.jobs[on_hardware.provider_job_id].request


# ---- receipt ----


def test_a_receipt_has_counts_times_and_what_was_used(adapter: IonqAdapter) -> None:
    receipt = receipt_of(adapter)
    facts = facts_of(receipt)
    assert receipt.results == {"measurementCounts": {"010": 100}}
    assert (facts["counts_source"], facts["counts_format"]) == ("measured", "ionq.result.shots.json.v2")
    assert (facts["quantum_seconds"], facts["gate_counts"]) == (0.0052, {"1q": 1, "2q": 0})
    times = receipt.timestamps or {}
    assert times["executionDuration"] == 4.2
    moments = [datetime.fromisoformat(times[name]) for name in ("createdAt", "startedAt", "endedAt")]
    assert moments == sorted(moments)


def test_a_job_that_has_not_ended_has_a_receipt_without_counts(double: IonqDouble, adapter: IonqAdapter) -> None:
    with double.hold():
        receipt = adapter.get_job_receipt(submitted(adapter))
    assert (receipt.status, receipt.results) == (ProviderStatus.QUEUED, None)
    assert set(receipt.timestamps or {}) == {"createdAt"}
    assert facts_of(receipt)["quantum_seconds"] is None


@pytest.mark.parametrize(
    "formats",
    [
        MEASURED,
        ("shots.json.v2",),
        ("shots.json.v1", "histogram.json.v1"),
        ("histogram.json.v1", "probabilities.json.v2"),
        ("histogram.json.v2", "probabilities.json.v2"),
        ("probabilities.json.v2",),
        ("probabilities.json.v1",),
        ("probabilities",),
    ],
    ids="+".join,
)
@pytest.mark.parametrize("device", [QPU, "simulator"])
def test_every_format_reads_in_the_one_bit_order(
    double: IonqDouble, adapter: IonqAdapter, formats: tuple[str, ...], device: str
) -> None:
    double.formats = formats
    receipt = receipt_of(adapter, device)
    assert receipt.results == {"measurementCounts": {"010": 100}}
    measured = not formats[0].startswith("prob")
    assert facts_of(receipt)["counts_source"] == ("measured" if measured else "sampled")
    assert receipt.shots == 100


@pytest.mark.parametrize(
    "formats", [("shots.json.v2",), ("histogram.json.v2", "shots.json.v1"), ("probabilities.json.v2", *SIMULATED)]
)
def test_registers_that_hang_together_stay_together(
    double: IonqDouble, adapter: IonqAdapter, formats: tuple[str, ...]
) -> None:
    """Formats by register have no joint outcomes: one that has is taken instead."""
    double.formats = formats
    receipt = receipt_of(adapter, program=BELL)
    counts = (receipt.results or {})["measurementCounts"]
    assert set(counts) == {"000", "011"}
    assert sum(counts.values()) == 100


@pytest.mark.parametrize("formats", [("histogram.json.v2",), ("probabilities.json.v2",), ()])
def test_a_result_that_does_not_tell_registers_together_is_not_made_up(
    double: IonqDouble, adapter: IonqAdapter, formats: tuple[str, ...]
) -> None:
    double.formats = formats
    with pytest.raises(BadReply, match="".join(formats) or "no result"):
        receipt_of(adapter, program=BELL)


def test_what_was_measured_on_the_way_is_not_read_from_the_end(double: IonqDouble, adapters: Adapters) -> None:
    """The qubit that was 1 when it was measured is 0 when the circuit ends."""
    adapter = adapters(mid_circuit_backends=(QPU,))
    source = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\ncreg c[1];\nx q[0];\nmeasure q[0] -> c[0];\nx q[0];\n'
    device = device_of(adapter, QPU)
    target = adapter.target(device, JobOptions())
    assert target is not None
    circuit = compiler().translate(compiler().compile(source), target, None)
    for formats in ((*SIMULATED, "histogram.json.v2"), SIMULATED):
        double.formats = formats
        handle = adapter.submit(adapter.prepare(circuit, device, 100, JobOptions()).payload, QPU, 100)
        ended(adapter, handle)
        if formats is SIMULATED:
            with pytest.raises(BadReply):
                adapter.get_job_receipt(handle)
        else:
            assert adapter.get_job_receipt(handle).results == {"measurementCounts": {"1": 100}}


def test_a_result_nobody_can_read_says_what_is_missing(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.formats = ("probabilities.json.v1",)
    handle = adapter.submit(PROGRAM, QPU, 100)
    ended(adapter, handle)
    with pytest.raises(BadReply) as raised:
        adapter.get_job_receipt(handle)
    assert raised.value.field == "measurement"


def test_probabilities_need_a_number_of_shots(double: IonqDouble, adapter: IonqAdapter) -> None:
    handle = submitted(adapter, "simulator")
    double.jobs[handle.provider_job_id].request["metadata"] = {"qcompute_shots": "many"}
    ended(adapter, handle)
    with pytest.raises(BadReply) as raised:
        adapter.get_job_receipt(handle)
    assert raised.value.field == "shots"


def test_a_result_in_a_form_of_ours_but_not_as_described_is_a_bad_reply(
    double: IonqDouble, adapter: IonqAdapter
) -> None:
    handle = submitted(adapter)
    ended(adapter, handle)
    double.fault("artifacts", FaultKind.STATUS, status=200, body=b'{"shots": [{"registers": {"a": ["x"]}}]}')
    with pytest.raises(BadReply):
        adapter.get_job_receipt(handle)
    assert adapter.get_job_receipt(handle).results is not None


# ---- cost ----


def test_what_ionq_charged_is_the_cost(adapter: IonqAdapter) -> None:
    receipt = receipt_of(adapter)
    facts = facts_of(receipt)
    assert (receipt.cost, facts["currency"], facts["cost_kind"]) == (24.83, "USD", "actual")


def test_without_a_charge_ionqs_own_estimate_is_told_as_such(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.cost = None
    receipt = receipt_of(adapter)
    assert (receipt.cost, facts_of(receipt)["cost_kind"]) == (25.5, "vendor_estimate")


def test_credits_are_not_money(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.cost = {"value": 12.5, "unit": "credit"}
    receipt = receipt_of(adapter)
    facts = facts_of(receipt)
    assert (receipt.cost, facts["vendor_cost"], facts["vendor_cost_unit"]) == (None, "12.5", "credit")
    assert not {"currency", "cost_kind"} & facts.keys()


@pytest.mark.parametrize("how", ["absent", "refused", "nonsense"])
def test_a_cost_that_is_not_told_is_not_known(double: IonqDouble, adapter: IonqAdapter, how: str) -> None:
    double.cost = double.estimated_cost = None
    if how == "refused":
        double.fault("/cost", FaultKind.STATUS, status=404)
    if how == "nonsense":
        double.fault("/cost", FaultKind.STATUS, status=200, body=b'{"cost": {"value": "much"}}')
    receipt = receipt_of(adapter)
    assert receipt.cost is None
    assert "cost_kind" not in facts_of(receipt)
    assert receipt.results == {"measurementCounts": {"010": 100}}


def test_a_simulators_job_is_free(adapter: IonqAdapter) -> None:
    receipt = receipt_of(adapter, "simulator")
    assert (receipt.cost, facts_of(receipt)["cost_kind"]) == (0.0, "actual")
    assert adapter.get_pricing("simulator") == {"perTask": 0.0, "perShot": 0.0, "perMinute": 0.0}


# ---- estimate ----


def test_an_estimate_is_asked_for_with_the_gates_that_are_sent(double: IonqDouble, adapter: IonqAdapter) -> None:
    device = device_of(adapter, QPU)
    prepared = translated(adapter, device)
    assert adapter.estimate(prepared, device, 1000) == Money(Decimal("97.5"), "USD")
    assert adapter.estimate(prepared, device, 1000) == Money(Decimal("97.5"), "USD")
    asked = {"backend": QPU, "qubits": "3", "shots": "1000", "1q_gates": "1", "2q_gates": "0"}
    assert double.questions == [asked]
    simulator = device_of(adapter, "simulator")
    assert adapter.estimate(translated(adapter, simulator), simulator, 1000) == Money(Decimal(0), "USD")
    assert len(double.questions) == 1


def test_estimates_are_kept_for_a_while_and_not_for_ever(
    double: IonqDouble, adapter: IonqAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ionq, "_MAX_ESTIMATES", 2)
    device = device_of(adapter, QPU)
    prepared = translated(adapter, device)
    for shots in (1, 2, 3, 3, 1):
        adapter.estimate(prepared, device, shots)
    assert [question["shots"] for question in double.questions] == ["1", "2", "3", "1"]
    monkeypatch.setattr(ionq, "_ESTIMATE_SECONDS", 0.0)
    adapter.estimate(prepared, device, 4)
    adapter.estimate(prepared, device, 4)
    assert [question["shots"] for question in double.questions][-2:] == ["4", "4"]


@pytest.mark.parametrize("how", ["503", "400", "nonsense", "credit"])
def test_without_an_estimate_the_operators_prices_are_used(double: IonqDouble, adapters: Adapters, how: str) -> None:
    prices = Prices(per_task=Decimal(1), per_shot=Decimal("0.02"))
    plain, priced = adapters(), adapters(prices=prices)
    for adapter, expected in ((plain, None), (priced, Money(Decimal("21.00"), "USD"))):
        device = device_of(adapter, QPU)
        prepared = translated(adapter, device)
        if how == "credit":
            double.estimate_unit = "credit"
        elif how == "nonsense":
            double.fault("estimate", FaultKind.STATUS, status=200, body=b'{"estimated_total_cost": -1}')
        else:
            double.fault("estimate", FaultKind.STATUS, status=int(how))
        assert adapter.estimate(prepared, device, 1000) == expected
    assert plain.get_pricing(QPU) is None
    assert priced.get_pricing(QPU) == {"perTask": 1.0, "perShot": 0.02, "perMinute": 0.0}
    assert priced.price_currency() == "USD"


def test_a_circuit_that_was_not_translated_has_no_estimate(double: IonqDouble, adapter: IonqAdapter) -> None:
    device = device_of(adapter, QPU)
    prepared = adapter.prepare(ASYMMETRIC, device, 100, JobOptions())
    assert adapter.estimate(prepared, device, 100) is None
    assert double.questions == []
