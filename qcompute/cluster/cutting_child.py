"""The sandbox's side of circuit cutting: where to cut, what to run, and the value from the counts.

Checked against qiskit-addon-cutting 0.10.0 and qiskit 2.6. The library finds the cuts, makes the subexperiments and
puts the value together. Ours are: what the library does not take (idle qubits, measurements at the end), the wires of
a circuit with several wire cuts (see `_with_moves`), running equal subexperiments once, and the standard error.
"""

# qiskit and the library ship no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportMissingTypeArgument=false, reportUnknownParameterType=false

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from qcompute.circuits.parse import read_unmeasured
from qcompute.circuits.settings import CircuitSettings
from qcompute.errors import CannotRun

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

SEED: Final = 7
"""Of the search for cuts: the same circuit is cut the same way at every call."""

MAX_EXPERIMENTS: Final = 10_000
"""Subexperiments before equal ones are run once. Cuts of weak gates cost few shots and still double the circuits."""

_ONE_QUBIT: Final = ("h", "x", "y", "z", "s", "sdg", "t", "tdg", "sx", "sxdg", "rx", "ry", "rz", "p", "u")
_CUTTABLE: Final = (
    *("cx", "cy", "cz", "ch", "crx", "cry", "crz", "cp", "rxx", "ryy", "rzz"),
    *("cs", "csdg", "csx", "swap", "iswap", "dcx", "ecr"),
)
_ROUNDING: Final = 1e-9

Term = tuple[str, float]


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """Sandbox entry: ``task`` is ``plan`` or ``reconstruct``."""
    return _plan(request) if request["task"] == "plan" else _reconstruct(request)


def _plan(request: dict[str, Any]) -> dict[str, Any]:
    source, width = request["source"], request["max_subcircuit_qubits"]
    _, circuit = read_unmeasured(source, CircuitSettings.model_validate(request["settings"]))
    measurements = circuit.count_ops().get("measure", 0)
    circuit = _gates_only(circuit)
    terms: list[Term] = [(pauli, float(coefficient)) for pauli, coefficient in request["observable"]]
    if len(terms[0][0]) != circuit.num_qubits:
        raise CannotRun(
            f"the observable has {len(terms[0][0])} letters and the circuit {circuit.num_qubits} qubits",
            reason="bad_observable",
        )
    circuit, active, terms = _without_idle(circuit, terms)
    constant = math.fsum(coefficient for pauli, coefficient in terms if not pauli.strip("I"))
    terms = [(pauli, coefficient) for pauli, coefficient in terms if pauli.strip("I")]
    facts = _cut(circuit, terms, width, request["max_overhead"]) if terms else _nothing_to_run()
    for cut in facts["cuts"]:
        cut["qubits"] = [active[index] for index in cut["qubits"]]
    facts["recipe"] |= {"constant": constant, "terms": [coefficient for _, coefficient in terms]}
    digest = hashlib.sha256(source.encode()).hexdigest()
    return facts | {"circuit_sha256": digest, "measurements_left_out": measurements}


def _nothing_to_run() -> dict[str, Any]:
    recipe: dict[str, Any] = {"coefficients": [], "paulis": [], "order": []}
    facts: dict[str, Any] = {"cuts": [], "sampling_overhead": 1.0, "is_minimal": True, "widths": []}
    return facts | {"subexperiments": [], "recipe": recipe}


def _gates_only(circuit: QuantumCircuit) -> QuantumCircuit:
    """The circuit without its measurements at the end and without barriers, on gates the library can cut."""
    from qiskit import QuantumCircuit, transpile  # noqa: PLC0415 - only in the sandbox
    from qiskit.circuit import Gate  # noqa: PLC0415
    from qiskit.transpiler.exceptions import TranspilerError  # noqa: PLC0415

    gates = QuantumCircuit(circuit.num_qubits)
    circuit.remove_final_measurements()
    for instruction in circuit.data:
        if instruction.operation.name == "barrier":
            continue
        if not isinstance(instruction.operation, Gate) or instruction.clbits:
            raise CannotRun(
                f"a circuit to be cut has gates and measurements at its end only, this one has "
                f"{instruction.operation.name[:40]} on its way",
                reason="cutting_mid_circuit",
            )
        gates.append(instruction.operation, [circuit.find_bit(qubit).index for qubit in instruction.qubits])
    try:
        return transpile(gates, basis_gates=[*_ONE_QUBIT, *_CUTTABLE], optimization_level=0)
    except TranspilerError:
        raise CannotRun("the circuit has a gate that cannot be cut", reason="gate_set") from None


def _without_idle(circuit: QuantumCircuit, terms: list[Term]) -> tuple[QuantumCircuit, list[int], list[Term]]:
    """The circuit on the qubits that are used, which those are, and the observable on them.

    An idle qubit is |0>: Z on it is 1, and a term with X or Y on it is 0.
    """
    from qiskit import QuantumCircuit  # noqa: PLC0415 - only in the sandbox

    used = {circuit.find_bit(qubit).index for instruction in circuit.data for qubit in instruction.qubits}
    active = sorted(used)
    place = {index: position for position, index in enumerate(active)}
    narrow = QuantumCircuit(len(active))
    for instruction in circuit.data:
        narrow.append(instruction.operation, [place[circuit.find_bit(qubit).index] for qubit in instruction.qubits])
    kept: list[Term] = []
    for pauli, coefficient in terms:
        letters = pauli[::-1]  # letters[k] is qubit k
        if all(letter in "IZ" for index, letter in enumerate(letters) if index not in used):
            kept.append(("".join(letters[index] for index in reversed(active)), coefficient))
    return narrow, active, kept


def _cut(circuit: QuantumCircuit, terms: list[Term], width: int, max_overhead: float) -> dict[str, Any]:
    from qiskit.quantum_info import PauliList  # noqa: PLC0415 - only in the sandbox
    from qiskit_addon_cutting import generate_cutting_experiments, partition_problem  # noqa: PLC0415
    from qiskit_addon_cutting.automated_cut_finding import (  # noqa: PLC0415
        DeviceConstraints,
        OptimizationParameters,
        find_cuts,
    )

    marked, found = find_cuts(circuit, OptimizationParameters(seed=SEED), DeviceConstraints(width))
    moved, places = _with_moves(marked)
    observables = PauliList([_placed(pauli, places, moved.num_qubits) for pauli, _ in terms])
    problem = partition_problem(moved, observables=observables)
    overhead = math.prod(float(basis.overhead) for basis in problem.bases)
    _check_price(overhead, max_overhead, [len(basis.coeffs) for basis in problem.bases], width)
    observed: dict[Any, Any] = problem.subobservables or {}
    pieces = _that_matter(problem.subcircuits, observed)
    experiments, coefficients = generate_cutting_experiments(
        {label: problem.subcircuits[label] for label in pieces},
        {label: observed[label] for label in pieces},
        math.inf,
    )
    numbers = [float(coefficient) for coefficient, _ in coefficients]
    subexperiments, order = _unique([experiments[label] for label in pieces], numbers)
    return {
        "cuts": _named(marked),
        "sampling_overhead": overhead,
        "is_minimal": bool(found["minimum_reached"]),
        "widths": [problem.subcircuits[label].num_qubits for label in pieces],
        "subexperiments": subexperiments,
        "recipe": {
            "coefficients": numbers,
            "paulis": [observed[label].to_labels() for label in pieces],
            "order": order,
        },
    }


def _with_moves(circuit: QuantumCircuit) -> tuple[QuantumCircuit, list[int]]:
    """Each wire cut as a move, to be cut, onto a qubit of its own; and where each qubit is at the end.

    The library's ``cut_wires`` loses a cut where a wire is cut twice and another wire between (0.10.0: it counts with
    ``groupby`` what is not sorted), and the second move lands on a qubit that is somebody else's.
    """
    from qiskit import QuantumCircuit  # noqa: PLC0415 - only in the sandbox
    from qiskit_addon_cutting.instructions import Move  # noqa: PLC0415
    from qiskit_addon_cutting.qpd import TwoQubitQPDGate  # noqa: PLC0415

    wires = sum(1 for instruction in circuit.data if instruction.operation.name == "cut_wire")
    moved, places = QuantumCircuit(circuit.num_qubits + wires), list(range(circuit.num_qubits))
    fresh = circuit.num_qubits
    for instruction in circuit.data:
        qubits = [circuit.find_bit(qubit).index for qubit in instruction.qubits]
        if instruction.operation.name == "cut_wire":
            moved.append(TwoQubitQPDGate.from_instruction(Move()), [places[qubits[0]], fresh])
            places[qubits[0]] = fresh
            fresh += 1
        else:
            moved.append(instruction.operation, [places[index] for index in qubits])
    return moved, places


def _placed(pauli: str, places: Sequence[int], width: int) -> str:
    letters = ["I"] * width
    for index, letter in enumerate(reversed(pauli)):
        letters[places[index]] = letter
    return "".join(reversed(letters))


def _check_price(overhead: float, max_overhead: float, mappings: Sequence[int], width: int) -> None:
    if overhead > max_overhead * (1 + _ROUNDING):
        raise CannotRun(
            f"cutting this circuit into pieces of at most {width} qubits takes {len(mappings)} cuts and {overhead:.4g} "
            f"times the shots; max_overhead allows {max_overhead:.4g} times, {math.ceil(overhead * (1 - _ROUNDING))} "
            "would do",
            reason="cutting_overhead",
        )
    if math.prod(mappings) > MAX_EXPERIMENTS:
        raise CannotRun(
            f"{len(mappings)} cuts make more than {MAX_EXPERIMENTS} subexperiments", reason="cutting_experiments"
        )


def _that_matter(subcircuits: dict[Any, QuantumCircuit], observed: dict[Any, Any]) -> list[Any]:
    """Labels of the pieces that are cut from another or observed; any other's factor is 1."""
    return [
        label
        for label in sorted(subcircuits)
        if any(pauli.strip("I") for pauli in observed[label].to_labels())
        or any(instruction.operation.name == "qpd_1q" for instruction in subcircuits[label].data)
    ]


def _unique(
    experiments: Sequence[Sequence[QuantumCircuit]], coefficients: Sequence[float]
) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """Each different circuit once, with its share of the weight, and which of them stands in each place.

    A piece knows of its own cuts only, so with cuts elsewhere the library lists its circuits many times over.
    """
    from qiskit import qasm2  # noqa: PLC0415 - only in the sandbox

    found: dict[tuple[int, int, str], dict[str, Any]] = {}
    order: list[list[int]] = []
    for piece, circuits in enumerate(experiments):
        groups = len(circuits) // len(coefficients)
        numbers: list[int] = []
        for place, circuit in enumerate(circuits):
            text = qasm2.dumps(_with_plain_names(circuit))
            known = found.setdefault((piece, place % groups, text), _described(piece, circuit, text, len(found)))
            known["weight"] += abs(coefficients[place // groups])
            numbers.append(known["number"])
        order.append(numbers)
    return list(found.values()), order


def _with_plain_names(circuit: QuantumCircuit) -> QuantumCircuit:
    """The same circuit on one register q: the library's registers are numbered on from call to call."""
    from qiskit import QuantumCircuit, QuantumRegister  # noqa: PLC0415 - only in the sandbox

    plain = QuantumCircuit(QuantumRegister(circuit.num_qubits, "q"), *circuit.cregs)
    plain.compose(circuit, range(circuit.num_qubits), range(circuit.num_clbits), inplace=True)
    return plain


def _described(piece: int, circuit: QuantumCircuit, text: str, number: int) -> dict[str, Any]:
    (observed,) = [register.size for register in circuit.cregs if register.name == "observable_measurements"]
    facts: dict[str, Any] = {"number": number, "subcircuit": piece, "text": text, "weight": 0.0}
    return facts | {
        "num_qubits": circuit.num_qubits,
        "num_clbits": circuit.num_clbits,
        "observable_bits": observed,
    }


def _named(marked: QuantumCircuit) -> list[dict[str, Any]]:
    cuts: list[dict[str, Any]] = []
    for instruction in marked.data:
        qubits = [marked.find_bit(qubit).index for qubit in instruction.qubits]
        if instruction.operation.name == "cut_wire":
            cuts.append({"kind": "wire", "gate": None, "qubits": qubits, "overhead": 16.0})
        elif instruction.operation.name == "qpd_2q":
            gate = str(instruction.operation.label).removeprefix("cut_").rsplit("_", 1)[0]
            overhead = float(instruction.operation.basis.overhead)
            cuts.append({"kind": "gate", "gate": gate, "qubits": qubits, "overhead": overhead})
    return cuts


def _reconstruct(request: dict[str, Any]) -> dict[str, Any]:
    """The value by the library, from frequencies; see `_variance` for its error."""
    from qiskit.primitives import SamplerResult  # noqa: PLC0415 - only in the sandbox
    from qiskit.quantum_info import PauliList  # noqa: PLC0415
    from qiskit_addon_cutting import reconstruct_expectation_values  # noqa: PLC0415
    from qiskit_addon_cutting.qpd import WeightType  # noqa: PLC0415

    recipe, counts = request["recipe"], request["counts"]
    if not recipe["terms"]:
        return {"value": recipe["constant"], "standard_error": 0.0}
    frequencies = [{int(key, 2): n / sum(part.values()) for key, n in part.items()} for part in counts]
    results: dict[Any, Any] = {
        piece: SamplerResult([frequencies[number] for number in numbers], [{} for _ in numbers])
        for piece, numbers in enumerate(recipe["order"])
    }
    values = reconstruct_expectation_values(
        results,
        [(coefficient, WeightType.EXACT) for coefficient in recipe["coefficients"]],
        {piece: PauliList(labels) for piece, labels in enumerate(recipe["paulis"])},
    )
    value = recipe["constant"] + math.fsum(a * float(v) for a, v in zip(recipe["terms"], values, strict=True))
    return {"value": value, "standard_error": math.sqrt(_variance(recipe, request["observable_bits"], counts))}


def _variance(recipe: dict[str, Any], observable_bits: list[int], counts: list[dict[str, int]]) -> float:
    """The variance of the value by propagation of errors.

    The value is linear in the outcomes of each subexperiment, with all others held; its slope towards each outcome
    times that outcome's spread is what the subexperiment adds. So terms measured together, and a subexperiment that
    stands in many places, are counted with their correlations.
    """
    import numpy as np  # noqa: PLC0415 - only in the sandbox

    pieces = [_Piece(labels) for labels in recipe["paulis"]]
    signs = {
        (piece, number): pieces[piece].signs(place % pieces[piece].groups, counts[number], observable_bits[number])
        for piece, numbers in enumerate(recipe["order"])
        for place, number in enumerate(numbers)
    }
    weights = [np.array(list(part.values()), dtype=float) for part in counts]
    terms = np.array(recipe["terms"])
    slopes = [np.zeros(len(terms)) for _ in counts]
    for sample, coefficient in enumerate(recipe["coefficients"]):
        used = [
            numbers[sample * pieces[piece].groups : (sample + 1) * pieces[piece].groups]
            for piece, numbers in enumerate(recipe["order"])
        ]
        means = [
            sum((weights[number] @ signs[piece, number]) / weights[number].sum() for number in numbers)
            for piece, numbers in enumerate(used)
        ]
        for piece, numbers in enumerate(used):
            others = np.prod([mean for other, mean in enumerate(means) if other != piece], axis=0)
            for number in numbers:
                slopes[number] = slopes[number] + coefficient * terms * others
    total = 0.0
    for (_, number), outcomes in signs.items():
        effect, shots = outcomes @ slopes[number], weights[number].sum()
        mean = weights[number] @ effect / shots
        total += float(weights[number] @ (effect - mean) ** 2 / shots / (shots - 1))
    return total


class _Piece:
    """One piece's terms, in the library's groups of those measured together."""

    def __init__(self, labels: list[str]) -> None:
        from qiskit.quantum_info import Pauli, PauliList  # noqa: PLC0415 - only in the sandbox
        from qiskit_addon_cutting.utils.observable_grouping import ObservableCollection  # noqa: PLC0415

        collection = ObservableCollection(PauliList(labels))
        self.groups = len(collection.groups)
        self._masks: list[dict[int, int]] = [{} for _ in collection.groups]
        for term, label in enumerate(labels):
            group, place = collection.lookup[Pauli(label)][0]
            self._masks[group][term] = collection.groups[group].pauli_bitmasks[place]
        self._terms = len(labels)

    def signs(self, group: int, counts: dict[str, int], observable_bits: int) -> Any:  # noqa: ANN401 - numpy stays here
        """What each outcome says of each term, +1 or -1, and 0 of terms another group measures."""
        import numpy as np  # noqa: PLC0415 - only in the sandbox

        rows = np.zeros((len(counts), self._terms))
        for row, key in enumerate(counts):
            outcome = int(key, 2)
            observed, passed = outcome & ((1 << observable_bits) - 1), outcome >> observable_bits
            for term, mask in self._masks[group].items():
                rows[row, term] = 1 - 2 * ((passed.bit_count() + (observed & mask).bit_count()) & 1)
        return rows
