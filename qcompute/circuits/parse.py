"""The sandbox's side of compiling: text to QuantumCircuit to facts, or to a device's form.

qiskit is imported here and nowhere in the daemon.

Facts used: ``qasm2.loads`` opens absolute paths unless ``include_path=()`` is given, and the screen has refused every
include but the standard one before this is reached. qiskit's Rust panics are BaseExceptions; the child's loop turns
them into refusals.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hashlib
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from qcompute.circuits.cost import check_cost, read_tree
from qcompute.circuits.flat import read_flat
from qcompute.circuits.measurement import Register
from qcompute.circuits.own_gates import renamed_2, renamed_3
from qcompute.circuits.program import CompiledCircuit, Language
from qcompute.circuits.screen import screen
from qcompute.circuits.settings import CircuitSettings
from qcompute.circuits.target import Target
from qcompute.circuits.translate import translate
from qcompute.circuits.unroll import unrolled
from qcompute.circuits.walk import Walk
from qcompute.errors import CannotRun

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

_WHERE: Final = re.compile(r"(?:<input>:|L)?(\d+)[,:]C?\d+:\s*(.*)", re.DOTALL)
_MAX_REASON: Final = 200


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """Sandbox entry: ``{"source", "settings"}`` in, the fields of a `CompiledCircuit` but ``source`` out.

    With ``"target"`` and ``"level"`` too, the fields of a `Translation` come out instead.
    """
    settings = CircuitSettings.model_validate(request["settings"])
    if "target" in request:
        _, circuit = _read(request["source"], settings)
        return translate(circuit, Target.model_validate(request["target"]), request["level"]).model_dump(mode="json")
    return describe(request["source"], settings).model_dump(mode="json", exclude={"source"})


def warm_up() -> None:
    """What the sandbox calls before it says that it is ready: the first circuit's time is not for loading qiskit."""
    describe('OPENQASM 2.0; include "qelib1.inc"; qreg q[1]; creg c[1]; h q[0]; measure q -> c;', CircuitSettings())


def describe(source: str, settings: CircuitSettings) -> CompiledCircuit:
    """Screen, estimate, parse, measure.

    Raises:
        CannotRun: it does not parse, is too large, measures nothing, or has free or infinite parameters.
    """
    language, circuit = _read(source, settings)
    walk = Walk(circuit)
    return CompiledCircuit(
        source=source,
        language=language,
        sha256=hashlib.sha256(source.encode()).hexdigest(),
        num_qubits=circuit.num_qubits,
        num_clbits=circuit.num_clbits,
        registers=_registers(circuit),
        measured=tuple(sorted(walk.measured.items())),
        gate_counts={str(name): int(count) for name, count in circuit.count_ops().items()},
        depth=walk.depth,
        num_ops=len(circuit.data),
        has_mid_circuit_measurement=walk.mid_circuit,
        has_control_flow=walk.control_flow,
        busiest_cut=walk.busiest_cut,
    )


def _read(source: str, settings: CircuitSettings) -> tuple[Language, QuantumCircuit]:
    return _parsed(source, settings.model_dump_json())


@lru_cache(maxsize=1)  # a circuit is described and then translated, and parsing it is the slow part of both
def _parsed(source: str, settings_json: str) -> tuple[Language, QuantumCircuit]:
    language, circuit = read_unmeasured(source, CircuitSettings.model_validate_json(settings_json))
    if circuit.num_clbits == 0 or "measure" not in all_names(circuit):
        raise CannotRun("nothing is measured: the circuit has no measurement", reason="no_measurement")
    return language, circuit


def read_unmeasured(source: str, settings: CircuitSettings) -> tuple[Language, QuantumCircuit]:
    """A circuit that need not measure anything: screened, its cost estimated, parsed and within the limits.

    Raises:
        CannotRun: it does not parse, is too large, or has free or infinite parameters.
    """
    language = screen(source, settings)
    check_cost(source, language, settings)
    circuit = load(source, language)
    _check_size(circuit, settings)
    return language, circuit


def load_program(source: str) -> QuantumCircuit:
    """The circuit of a text that was described before; used where it is simulated.

    How long and how deep it may be was decided then, by the operator's settings and not by the defaults.

    Raises:
        CannotRun: it does not parse.
    """
    length = max(len(source.encode("utf-8", "surrogatepass")), 1024)
    return load(source, screen(source, CircuitSettings(max_source_bytes=length, max_nesting=length)))


def load(source: str, language: Language) -> QuantumCircuit:
    """Parse.

    Raises:
        CannotRun: with the line where there is one.
    """
    match language:
        case Language.OPENQASM_2:
            return _load_2(source)
        case Language.OPENQASM_3:
            return _load_3(source)


def _load_2(source: str) -> QuantumCircuit:
    from qiskit import qasm2  # noqa: PLC0415 - only in the sandbox

    try:
        return qasm2.loads(
            renamed_2(source),
            include_path=(),
            custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS,
            custom_classical=qasm2.LEGACY_CUSTOM_CLASSICAL,
            strict=False,
        )
    except qasm2.QASM2ParseError as error:
        raise _unparsed(error, "OpenQASM 2") from None


def _load_3(source: str) -> QuantumCircuit:
    circuit = read_flat(source)
    return _load_3_by_reference(source) if circuit is None else circuit


def _load_3_by_reference(source: str) -> QuantumCircuit:
    import qiskit_qasm3_import  # noqa: PLC0415 - only in the sandbox
    from qiskit.exceptions import QiskitError  # noqa: PLC0415

    program = unrolled(renamed_3(read_tree(source)))
    try:
        return qiskit_qasm3_import.convert(program)
    except (qiskit_qasm3_import.ConversionError, QiskitError) as error:
        raise _unparsed(error, "OpenQASM 3") from None
    except (TypeError, ValueError, LookupError, AttributeError, NotImplementedError, ArithmeticError):
        # The importer meets what it does not know in many ways; none of them says more than this.
        message = "it uses a part of OpenQASM 3 that is not supported here"
        raise CannotRun(message, reason="unsupported") from None


def _unparsed(error: Exception, language: str) -> CannotRun:
    """The parser's complaint, first line only: with includes refused it can quote nothing but the program itself."""
    text = str(getattr(error, "message", error)).strip().strip('"')  # a QiskitError's own text is in quotes
    where = _WHERE.match(text)
    line = int(where.group(1)) if where else None
    reason = (where.group(2) if where else text).splitlines()[:1]
    short = re.sub(r"[^\x20-\x7e]", "?", reason[0] if reason else "")[:_MAX_REASON].strip().strip('"')
    place = f"line {line}: " if line else ""
    return CannotRun(f"{place}not valid {language}: {short or 'syntax error'}", reason="parse_error", line=line)


def _check_size(circuit: QuantumCircuit, settings: CircuitSettings) -> None:
    if circuit.num_qubits == 0:
        raise CannotRun("the circuit has no qubits", reason="empty")
    if circuit.num_qubits > settings.max_qubits:
        raise CannotRun(f"the circuit has more than {settings.max_qubits} qubits", reason="too_wide")
    if circuit.num_clbits > settings.max_clbits:
        raise CannotRun(f"the circuit has more than {settings.max_clbits} classical bits", reason="too_wide")
    if circuit.parameters:
        raise CannotRun("the circuit has parameters without a value", reason="unbound_parameters")
    if not _all_finite(circuit):
        raise CannotRun("an angle is not a finite number", reason="not_finite")


def _all_finite(circuit: QuantumCircuit) -> bool:
    """Whether no operation has an infinite or undefined parameter, branches included."""
    numbers = [number for instruction in circuit.data for number in instruction.params]
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        return False
    return all(_all_finite(block) for block in _blocks(circuit))


def all_names(circuit: QuantumCircuit) -> set[str]:
    """Every operation in a circuit and in the branches and loops of it."""
    return {str(name) for name in circuit.count_ops()}.union(*map(all_names, _blocks(circuit)))


def _blocks(circuit: QuantumCircuit) -> list[QuantumCircuit]:
    """The branches and bodies in a circuit; to look for them at each of its instructions is slow."""
    from qiskit.circuit import CONTROL_FLOW_OP_NAMES  # noqa: PLC0415 - only in the sandbox

    if not CONTROL_FLOW_OP_NAMES & circuit.count_ops().keys():
        return []
    return [block for one in circuit.data for block in getattr(one.operation, "blocks", ())]


def _registers(circuit: QuantumCircuit) -> tuple[Register, ...]:
    """Classical registers in declared order; bits outside any register stand as registers of one bit each."""
    registers = [Register(name=register.name, size=register.size) for register in circuit.cregs]
    covered = sum(register.size for register in registers)
    loose = [Register(name=f"bit{index}", size=1) for index in range(covered, circuit.num_clbits)]
    return tuple(registers + loose)
