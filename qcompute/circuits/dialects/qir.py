"""QIR base profile as LLVM text, for targets of Azure Quantum that take nothing else. Runs in the sandbox.

Written directly: the base profile is one block of calls with static qubits and results. Words, declarations, attributes
and module flags are those Microsoft's own compiler writes (qdk 1.33, ``qdk.openqasm.compile`` for the base profile: QIR
1.0, typed pointers, no allocation). Specification: https://github.com/qir-alliance/qir-spec, ``Base_Profile.md``.

The output is one array. Its element k is the circuit's k-th written classical bit in ascending order
(`MeasurementMap.written`), so a shot of the result is a row for `MeasurementMap.counts_from_rows`.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from qcompute.circuits.measurement import MeasurementMap
from qcompute.errors import CannotRun

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

ENTRY_POINT: Final = "ENTRYPOINT__main"
"""The function a job names as its entry."""

_WORDS: Final = {
    "x": "x__body", "y": "y__body", "z": "z__body", "h": "h__body", "s": "s__body", "sdg": "s__adj",
    "t": "t__body", "tdg": "t__adj", "rx": "rx__body", "ry": "ry__body", "rz": "rz__body",
    "cx": "cx__body", "cy": "cy__body", "cz": "cz__body", "swap": "swap__body", "ccx": "ccx__body",
    "rxx": "rxx__body", "ryy": "ryy__body", "rzz": "rzz__body",
}  # fmt: skip

GATES: Final = frozenset(("id", *_WORDS))
"""What can be written, in Qiskit's names: those azure-quantum 3.13 hands its QIR targets, without ``sx`` and the
controlled rotations, which its compiler takes apart anyway."""

_ENTRY_ATTRIBUTES: Final = '"entry_point" "output_labeling_schema" "qir_profiles"="base_profile"'
_MEASURE: Final = "__quantum__qis__m__body"
_QUBIT, _RESULT = "%Qubit*", "%Result*"


def write(circuit: QuantumCircuit, measurement: MeasurementMap) -> str:
    """The circuit as a module of LLVM text; the same text for the same circuit.

    Each measured qubit is measured once, after all gates; a qubit that was read into two bits is recorded twice.
    Identities and barriers are left out, which changes no outcome.

    Raises:
        CannotRun: a gate QIR's instruction set does not have, a reset, a condition, or anything done to a qubit that
            was measured.
    """
    module = _Module(circuit.num_qubits)
    number = {bit: index for index, bit in enumerate(circuit.qubits)}
    read: set[int] = set()
    for instruction in circuit.data:
        name = instruction.operation.name
        on = [number[bit] for bit in instruction.qubits]
        if name == "measure":
            read.update(on)
        elif read.intersection(on) and name != "barrier":
            raise CannotRun(
                f"{name} on qubit {on[0]} follows a measurement, which QIR's base profile cannot say",
                reason="mid_circuit",
            )
        elif name not in ("barrier", "id"):
            module.gate(name, on, instruction.operation.params)
    module.measure(measurement)
    return module.text()


class _Module:
    """Collects the calls of the one block and what they need declared."""

    def __init__(self, num_qubits: int) -> None:
        self._num_qubits = num_qubits
        self._num_results = 0
        self._calls: list[str] = []
        self._declared: dict[str, str] = {}
        self._labels: list[str] = []
        self._call("__quantum__rt__initialize", [("i8*", "null")])

    def gate(self, name: str, on: list[int], params: list[Any]) -> None:
        word = _WORDS.get(name)
        if word is None:
            raise CannotRun(f"QIR's instruction set has no {name[:40]!r}", reason="unsupported")
        arguments = [("double", _double(name, value)) for value in params] + [_place(_QUBIT, qubit) for qubit in on]
        self._call(f"__quantum__qis__{word}", arguments)

    def measure(self, measurement: MeasurementMap) -> None:
        """One result for each qubit that was read, then what is handed out, in `MeasurementMap.written` order."""
        result_of = {qubit: result for result, qubit in enumerate(dict.fromkeys(measurement.qubits))}
        self._num_results = len(result_of)
        for qubit, result in result_of.items():
            self._call(_MEASURE, [_place(_QUBIT, qubit), _place(_RESULT, result)])
        self._record("__quantum__rt__array_record_output", ("i64", str(len(measurement.qubits))), "a")
        for position, qubit in enumerate(measurement.qubits):
            self._record("__quantum__rt__result_record_output", _place(_RESULT, result_of[qubit]), f"a{position}r")

    def text(self) -> str:
        labels = [f"@{index} = internal constant {label}" for index, label in enumerate(self._labels)]
        declared = [f"declare void @{name}({kinds}" for name, kinds in self._declared.items()]
        needs = f'"required_num_qubits"="{self._num_qubits}" "required_num_results"="{self._num_results}"'
        return "\n".join(
            (
                "%Result = type opaque",
                "%Qubit = type opaque",
                "",
                *labels,
                "",
                f"define i64 @{ENTRY_POINT}() #0 {{",
                "block_0:",
                *self._calls,
                "  ret i64 0",
                "}",
                "",
                *declared,
                "",
                f"attributes #0 = {{ {_ENTRY_ATTRIBUTES} {needs} }}",
                'attributes #1 = { "irreversible" }',
                "",
                "!llvm.module.flags = !{!0, !1, !2, !3}",
                "",
                '!0 = !{i32 1, !"qir_major_version", i32 1}',
                '!1 = !{i32 7, !"qir_minor_version", i32 0}',
                '!2 = !{i32 1, !"dynamic_qubit_management", i1 false}',
                '!3 = !{i32 1, !"dynamic_result_management", i1 false}',
                "",
            )
        )

    def _call(self, function: str, arguments: list[tuple[str, str]]) -> None:
        irreversible = " #1" if function == _MEASURE else ""
        self._declared[function] = ", ".join(kind for kind, _ in arguments) + ")" + irreversible
        self._calls.append(f"  call void @{function}({', '.join(' '.join(argument) for argument in arguments)})")

    def _record(self, function: str, what: tuple[str, str], label: str) -> None:
        label = f"{len(self._labels)}_{label}"
        kind = f"[{len(label) + 1} x i8]"
        index = len(self._labels)
        self._labels.append(f'{kind} c"{label}\\00"')
        self._call(function, [what, ("i8*", f"getelementptr inbounds ({kind}, {kind}* @{index}, i64 0, i64 0)")])


def _place(kind: str, index: int) -> tuple[str, str]:
    return kind, f"inttoptr (i64 {index} to {kind})"


def _double(name: str, value: Any) -> str:  # noqa: ANN401 - a number, or qiskit's expression of one
    try:
        angle = float(value)
    except (TypeError, ValueError, RuntimeError):
        angle = math.nan
    if not math.isfinite(angle):
        raise CannotRun(f"an angle of {name} is not a number", reason="free_parameter")
    return format(angle, ".16e")  # 17 digits give the very same double back; LLVM wants the point
