"""Circuit cutting for expectation values: a circuit too wide for every device, run in pieces.

A gate or a wire between two pieces is replaced by a weighted sum of local operations (a quasi-probability), so the
pieces run apart and an expectation value is put together from their counts. It is exact on average; the price is shots:
for the same standard error ``sampling_overhead`` (gamma squared) times as many, 9 for every CX or CZ cut, 16 for every
wire (https://arxiv.org/abs/1909.07534, https://arxiv.org/abs/1904.00102), multiplied over all cuts. So it is done on
request alone, its overhead is stated before anything runs, and above a cap it is refused. Counts cannot be put together
from pieces: an answer is one number with its standard error.

The work on circuits is `qiskit-addon-cutting`'s, in a sandboxed child (`qcompute.cluster.cutting_child`).
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qcompute.circuits.counts import normalize_counts
from qcompute.circuits.sandbox import SandboxLimits, SandboxPool
from qcompute.circuits.settings import CircuitSettings
from qcompute.cluster.splitting import split_batch
from qcompute.errors import Bug, CannotRun
from qcompute.faults import first_fault
from qcompute.units import Counts, Shots

LEAST_SHOTS: Final = 16
"""Shots of every subexperiment, however small its weight: below, its spread cannot be estimated."""

MAX_TERMS: Final = 100

DEFAULT_MAX_OVERHEAD: Final = 100.0
"""Allows two CX cuts (81) and refuses three: most of what costs more was not meant."""

_PAULI: Final = re.compile(r"[IXYZ]+")
_MAX_REPLY_BYTES: Final = 64 << 20

Observable = Mapping[str, float]
"""Pauli string to coefficient. Qiskit's order: the rightmost letter is qubit 0; one letter a qubit."""


class CutKind(StrEnum):
    """What was cut."""

    GATE = "gate"
    WIRE = "wire"


class Cut(BaseModel):
    """One cut. ``qubits`` are the circuit's own; ``gate`` is None for a wire; ``overhead`` multiplies the shots."""

    model_config = ConfigDict(frozen=True)

    kind: CutKind
    gate: str | None
    qubits: tuple[int, ...]
    overhead: float


class Subexperiment(BaseModel):
    """One circuit to run: OpenQASM 2. ``weight`` is its part of the quasi-probability, and of the shots.

    Its counts have ``num_clbits`` bits; the rightmost ``observable_bits`` of them are the observable's.
    """

    model_config = ConfigDict(frozen=True)

    subcircuit: int
    text: str = Field(repr=False)
    num_qubits: int
    num_clbits: int
    observable_bits: int
    weight: float


class Recipe(BaseModel):
    """How the value is put together: what `qcompute.cluster.cutting_child` needs besides the counts.

    ``coefficients`` are the quasi-probability's; ``terms`` the observable's; ``paulis[s][t]`` is term ``t`` on
    subcircuit ``s``; ``order[s]`` names a subexperiment for every coefficient and group of commuting terms, in the
    library's order; ``constant`` is the part of the value that needs no run.
    """

    model_config = ConfigDict(frozen=True)

    constant: float
    coefficients: tuple[float, ...]
    terms: tuple[float, ...]
    paulis: tuple[tuple[str, ...], ...]
    order: tuple[tuple[int, ...], ...]


class CuttingPlan(BaseModel):
    """What cutting a circuit would take; plain data, nothing has run.

    ``sampling_overhead`` is gamma squared. ``is_minimal`` says whether no cheaper cut exists; the search for one is
    bounded. ``widths`` are the qubits of each piece. Subexperiments that read the same run once for all their terms.
    ``measurements_left_out`` were at the end of the circuit.
    """

    model_config = ConfigDict(frozen=True)

    circuit_sha256: str
    observable: tuple[tuple[str, float], ...]
    measurements_left_out: int
    max_subcircuit_qubits: int
    cuts: tuple[Cut, ...]
    sampling_overhead: float
    is_minimal: bool
    widths: tuple[int, ...]
    subexperiments: tuple[Subexperiment, ...]
    recipe: Recipe = Field(repr=False)

    def describe(self) -> str:
        """For people: the cuts, the circuits to run, and the price in shots."""
        cut = ", ".join(f"{c.gate or 'wire'} on {'-'.join(map(str, c.qubits))} ({c.overhead:.4g}x)" for c in self.cuts)
        best = "" if self.is_minimal else ", perhaps not the least"
        return (
            f"{len(self.cuts)} cuts ({cut or 'none'}), {len(self.subexperiments)} subexperiments of at most "
            f"{max(self.widths, default=0)} qubits; {self.sampling_overhead:.4g} times the shots{best}"
        )


class CuttingRequest(BaseModel):
    """``configuration_data.cutting``, understood: the explicit wish to have a circuit cut.

    ``observable`` is what is asked for; ``max_overhead`` the most that may be paid, in multiples of the shots.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    observable: dict[str, float]
    max_subcircuit_qubits: int = Field(ge=1)
    max_overhead: float = Field(default=DEFAULT_MAX_OVERHEAD, ge=1, le=1e6)

    @classmethod
    def of(cls, configuration_data: Mapping[str, Any]) -> CuttingRequest | None:
        """What a caller asks for; None when it says nothing of cutting.

        Raises:
            CannotRun: it asks for counts, that is, names no observable; or a value cannot be honoured.
        """
        asked = configuration_data.get("cutting")
        if asked is None:
            return None
        if not isinstance(asked, Mapping) or "observable" not in asked:
            raise CannotRun(
                "circuit cutting gives expectation values, never counts: name an observable in "
                "configuration_data.cutting.observable, or leave cutting out",
                reason="cutting_counts",
            )
        try:
            return cls.model_validate(asked)
        except ValidationError as error:
            raise CannotRun(first_fault(error, "configuration_data.cutting"), reason="bad_option") from None


class PartResult(BaseModel):
    """What a node answered for one subexperiment; ``receipt_id`` names its receipt."""

    model_config = ConfigDict(frozen=True)

    subexperiment: int
    node: str
    shots: Shots
    counts: Counts
    receipt_id: str


class Expectation(BaseModel):
    """An expectation value with its standard error (one sigma, from the spread of the counts) and where it came from.

    ``shots`` is the sum over all parts. ``receipts`` names the receipt of every part, in the plan's order.
    """

    model_config = ConfigDict(frozen=True)

    value: float
    standard_error: float
    shots: int
    cuts: tuple[Cut, ...]
    sampling_overhead: float
    receipts: tuple[str, ...]


RunCircuit = Callable[[str, str, Shots], tuple[Counts, str]]
"""Runs a circuit: node, OpenQASM text, shots; gives the counts in Qiskit's order and the receipt's id. May block."""


class CircuitCutter:
    """Plans cuts and puts values together, in one sandboxed child. Thread-safe; blocks."""

    def __init__(self, settings: CircuitSettings, *, idle_seconds: float = 120.0) -> None:
        self._settings = settings.model_dump(mode="json")
        self._pool = SandboxPool(
            "qcompute.cluster.cutting_child:handle",
            limits=SandboxLimits(
                memory_bytes=settings.compile_memory_bytes,
                cpu_seconds=settings.compile_cpu_seconds,
                wall_seconds=settings.compile_wall_seconds,
                max_reply_bytes=_MAX_REPLY_BYTES,
            ),
            size=1,
            idle_seconds=idle_seconds,
            name="cut",
        )

    def plan(
        self, circuit_text: str, observable: Observable, max_subcircuit_qubits: int, max_overhead: float
    ) -> CuttingPlan:
        """Where to cut so that no piece has more than so many qubits; the same plan at every call.

        Measurements at the end of the circuit are left out: the observable says what is measured.

        Raises:
            CannotRun: the cuts found multiply the shots by more than ``max_overhead`` (``cutting_overhead``), there
                are too many subexperiments (``cutting_experiments``), the circuit measures, resets or branches on its
                way (``cutting_mid_circuit``), a gate cannot be cut, or circuit or observable is wrong.
            SandboxUnavailable: no child could be started; nothing is known.
        """
        terms = _checked(observable)
        if max_subcircuit_qubits < 1 or not max_overhead >= 1:
            raise CannotRun("a piece has at least 1 qubit, and an overhead is at least 1", reason="bad_option")
        request = {
            "task": "plan",
            "source": circuit_text,
            "settings": self._settings,
            "observable": terms,
            "max_subcircuit_qubits": max_subcircuit_qubits,
            "max_overhead": min(max_overhead, 1e12),
        }
        facts = self._pool.call(request)
        return CuttingPlan.model_validate(facts | {"observable": terms, "max_subcircuit_qubits": max_subcircuit_qubits})

    def reconstruct(self, plan: CuttingPlan, parts: Sequence[PartResult]) -> Expectation:
        """The expectation value from the parts' counts; the same at every call.

        Raises:
            Bug: a part is missing, or there twice.
            SandboxUnavailable: no child could be started.
        """
        by_number = {part.subexperiment: part for part in parts}
        if len(by_number) != len(parts) or set(by_number) != set(range(len(plan.subexperiments))):
            raise Bug("the parts of a cut circuit are not those of its plan")
        ordered = [by_number[number] for number in range(len(parts))]
        request = {
            "task": "reconstruct",
            "recipe": plan.recipe.model_dump(mode="json"),
            "observable_bits": [one.observable_bits for one in plan.subexperiments],
            "counts": [part.counts for part in ordered],
        }
        answer = self._pool.call(request)
        return Expectation(
            value=answer["value"],
            standard_error=answer["standard_error"],
            shots=sum(part.shots for part in ordered),
            cuts=plan.cuts,
            sampling_overhead=plan.sampling_overhead,
            receipts=tuple(part.receipt_id for part in ordered),
        )

    def close(self) -> None:
        """End the child; calls under way raise."""
        self._pool.close()


def allocate_shots(plan: CuttingPlan, shots: int) -> tuple[Shots, ...]:
    """``shots`` over all subexperiments of the plan, by weight, each at least `LEAST_SHOTS`.

    Raises:
        CannotRun: they are too few (``too_few_shots``); the message says how many there must be.
    """
    least = LEAST_SHOTS * len(plan.subexperiments)
    if shots < least:
        raise CannotRun(
            f"{len(plan.subexperiments)} subexperiments need at least {least} shots, not {shots}",
            reason="too_few_shots",
        )
    total = math.fsum(one.weight for one in plan.subexperiments)
    return tuple(
        Shots(LEAST_SHOTS + int((shots - least) * one.weight / total)) for one in plan.subexperiments
    )  # rounded down: never more than was asked for


def run(
    plan: CuttingPlan,
    shots: int,
    run_circuit: RunCircuit,
    *,
    nodes: Sequence[str] = ("",),
    finished: MutableMapping[int, PartResult] | None = None,
) -> list[PartResult]:
    """Run every subexperiment, split over ``nodes`` as a batch; one after the other on each node, nodes side by side.

    ``finished`` takes each part as it comes in; a second call with the same mapping runs only what is missing, so a
    node that fails costs its own part and not those already paid. After a failure no further part is started.

    Raises:
        CannotRun: too few shots, or no node.
        BadReply: counts that cannot be those of their circuit.
        Exception: what ``run_circuit`` raised.
    """
    wanted = allocate_shots(plan, shots)
    done: MutableMapping[int, PartResult] = {} if finished is None else finished
    missing = [number for number in range(len(wanted)) if number not in done]
    stop = threading.Event()

    def work(node: str, share: Sequence[int]) -> None:
        for place in share:
            if stop.is_set():
                return
            number = missing[place]
            try:
                done[number] = _run_one(plan, number, wanted[number], run_circuit, node)
            except BaseException:
                stop.set()
                raise

    shares = split_batch(len(missing), nodes)
    with ThreadPoolExecutor(max_workers=max(len(shares), 1), thread_name_prefix="cutting") as pool:
        for future in [pool.submit(work, node, share) for node, share in shares.items()]:
            future.result()
    return [done[number] for number in range(len(wanted))]


def _run_one(plan: CuttingPlan, number: int, shots: Shots, run_circuit: RunCircuit, node: str) -> PartResult:
    part = plan.subexperiments[number]
    raw, receipt_id = run_circuit(node, part.text, shots)
    counts = normalize_counts(raw, shots=shots, num_clbits=part.num_clbits)
    return PartResult(subexperiment=number, node=node, shots=shots, counts=counts, receipt_id=receipt_id)


def _checked(observable: Observable) -> list[tuple[str, float]]:
    terms = list(observable.items())
    if not 1 <= len(terms) <= MAX_TERMS:
        raise CannotRun(f"an observable has 1 to {MAX_TERMS} Pauli strings", reason="bad_observable")
    if any(not _PAULI.fullmatch(pauli) for pauli, _ in terms):
        raise CannotRun("a Pauli string is made of I, X, Y and Z, one for each qubit", reason="bad_observable")
    if len({len(pauli) for pauli, _ in terms}) > 1:
        raise CannotRun("the Pauli strings of an observable have different lengths", reason="bad_observable")
    if not all(math.isfinite(coefficient) for _, coefficient in terms):
        raise CannotRun("a coefficient of the observable is not a finite number", reason="bad_observable")
    return terms
