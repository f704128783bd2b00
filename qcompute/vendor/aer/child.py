"""The child's side of the Aer adapter: what runs in the sandbox. qiskit is imported here and nowhere in the daemon.

A child is ready once it has imported Aer. What a second job can use is kept: simulators with their noise, pass
managers, and the circuits of the last few texts.
``qiskit.transpile`` takes about 0.1 s for any circuit, most of it spent on making a pass manager, and refuses circuits
wider than 63 qubits for the method ``matrix_product_state`` (its own estimate of a memory it does not need); so it is
not used. Checked against qiskit 2.6 and qiskit-aer 0.18.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import time
from functools import cache, lru_cache
from typing import Any, Final

import qiskit
import qiskit_aer
from qiskit.circuit import CONTROL_FLOW_OP_NAMES
from qiskit_aer import AerError, AerSimulator

from qcompute.circuits.parse import all_names, load, load_program
from qcompute.circuits.program import Language
from qcompute.errors import CannotRun

_REMEMBERED_CIRCUITS: Final = 16
_REMEMBERED_BYTES: Final = 1 << 20
"""Circuits of longer texts are not kept: they would eat what the simulation may use."""

_PROBE: Final = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\nx q[0];\nx q[1];\nmeasure q -> c;\n'

_FEW_QUBITS: Final = 8
"""So narrow a circuit is sampled faster from its amplitudes than from a tableau, which Aer's ``automatic`` takes for
every Clifford circuit: with 1000 shots and more in two thirds of the time, with fewer in the same."""

_ON_THE_WAY: Final = frozenset({"reset", "initialize", *CONTROL_FLOW_OP_NAMES})

Facts = tuple[str, str | None, str, bool, int]
"""What one simulator differs from another by: method, noise, device, cuStateVec, megabytes."""


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Sandbox entry: ``task`` is ``simulate``, ``describe`` (a fake backend) or ``probe`` (a method on a GPU)."""
    match request["task"]:
        case "describe":
            return _describe_backend(request["noise_backend"])
        case "probe":
            return _probe(request["method"], custatevec=request["custatevec"])
        case _:
            return _simulate(request)


def _simulate(request: dict[str, Any]) -> dict[str, Any]:
    began = time.time()
    facts: Facts = (
        request["method"],
        request["noise_backend"],
        request.get("device", "CPU"),
        request.get("custatevec", False),
        request["max_memory_mb"],
    )
    simulator = _simulator(facts)
    circuit = _circuit(request, facts)
    # Who gave a seed gets what Aer itself gives for it.
    is_free = request["seed"] is None and _is_sampled_from_few_amplitudes(circuit, facts)
    better = {"method": "statevector"} if is_free else {}
    result = simulator.run(circuit, shots=request["shots"], seed_simulator=request["seed"], **better).result()
    if not result.success:
        raise CannotRun(f"Aer: {_failure(result)[:200]}", reason="aer")
    experiment = result.results[0]
    return {
        "counts": _counts(result.data(0), circuit.num_clbits),
        "method": str(experiment.metadata.get("method")),
        "device": str(experiment.metadata.get("device")),
        "seed": int(experiment.seed_simulator),
        "simulation_seconds": float(experiment.time_taken),
        "started": began,
        "ended": time.time(),
        "versions": {"qiskit": qiskit.__version__, "qiskit-aer": qiskit_aer.__version__},
    }


def _is_sampled_from_few_amplitudes(circuit: Any, facts: Facts) -> bool:  # noqa: ANN401 - qiskit ships no types
    """Whether all shots come from one narrow state: with a measurement on the way Aer simulates every shot anew."""
    method, noise, device, _, _ = facts
    if (method, noise, device) != ("automatic", None, "CPU") or circuit.num_qubits > _FEW_QUBITS:
        return False
    names = [instruction.operation.name for instruction in circuit.data]
    first = names.index("measure") if "measure" in names else len(names)
    before, after = set(names[:first]), set(names[first:])
    return not before & _ON_THE_WAY and after <= {"measure", "barrier"}


def _counts(data: dict[str, Any], num_clbits: int) -> dict[str, int]:
    """Aer's counts with keys of ``num_clbits`` bits; Aer writes them in hexadecimal, without leading zeros.

    `qiskit.result.Result.get_counts` takes five times as long, for blanks between registers that nobody wants here,
    and loses the bits that are in no register where others are.

    Raises:
        CannotRun: nothing was measured.
    """
    if (found := data.get("counts")) is None:
        raise CannotRun("nothing is measured: the circuit has no measurement", reason="no_measurement")
    leading = 1 << num_clbits
    return {bin(int(key, 16) | leading)[3:]: int(shots) for key, shots in found.items()}


def _failure(result: Any) -> str:  # noqa: ANN401 - qiskit ships no types
    """Aer's own words: the experiment's where there is one, which name the reason.

    Raises:
        MemoryError: it ran out of memory, or was about to.
    """
    words = [str(experiment.status) for experiment in result.results if str(experiment.status) != "DONE"]
    text = " ".join([str(result.status), *words])
    if "bad_alloc" in text or "Insufficient memory" in text:
        raise MemoryError
    return text


def _circuit(request: dict[str, Any], facts: Facts) -> Any:  # noqa: ANN401 - qiskit ships no types
    what = (request["source"], request.get("language"), facts, request["optimization_level"], request["seed"])
    return _compiled(*what) if len(request["source"]) > _REMEMBERED_BYTES else _remembered(*what)


@lru_cache(maxsize=_REMEMBERED_CIRCUITS)
def _remembered(source: str, language: str | None, facts: Facts, level: int | None, seed: int | None) -> Any:  # noqa: ANN401
    """The parts of one job, split over processes by their shots, come with one text; so do a tuner's repetitions."""
    return _compiled(source, language, facts, level, seed)


def _compiled(source: str, language: str | None, facts: Facts, level: int | None, seed: int | None) -> Any:  # noqa: ANN401
    """``language`` says that the text was screened before, in the daemon and in the compile sandbox."""
    circuit = load_program(source) if language is None else load(source, Language(language))
    method, noise, _, _, _ = facts
    if noise is None and not level:
        basis = _basis(method)
        return circuit if all_names(circuit) <= basis else _unroller(method).run(circuit)
    return _pass_manager(facts, level or 0, seed).run(circuit)


@cache
def _basis(method: str) -> frozenset[str]:
    return frozenset(AerSimulator(method=method).configuration().basis_gates) | {"measure", "barrier"}


def _standard_basis(method: str) -> list[str]:
    """The part of Aer's basis that Qiskit knows by name."""
    from qiskit.circuit.library import get_standard_gate_name_mapping  # noqa: PLC0415

    return sorted(_basis(method) & (get_standard_gate_name_mapping().keys() | CONTROL_FLOW_OP_NAMES))


@cache
def _unroller(method: str) -> Any:  # noqa: ANN401 - qiskit ships no types
    """Turns gates that Aer does not know into those it does; by their names alone, which sets no limit to the width."""
    from qiskit.transpiler import generate_preset_pass_manager  # noqa: PLC0415

    return generate_preset_pass_manager(optimization_level=0, basis_gates=_standard_basis(method))


def _pass_manager(facts: Facts, level: int, seed: int | None) -> Any:  # noqa: ANN401 - qiskit ships no types
    return _kept_pass_manager(facts, level) if seed is None else _new_pass_manager(facts, level, seed)


@lru_cache(maxsize=16)
def _kept_pass_manager(facts: Facts, level: int) -> Any:  # noqa: ANN401 - qiskit ships no types
    return _new_pass_manager(facts, level, None)


def _new_pass_manager(facts: Facts, level: int, seed: int | None) -> Any:  # noqa: ANN401 - qiskit ships no types
    from qiskit.transpiler import generate_preset_pass_manager  # noqa: PLC0415

    if facts[1] is None:
        return generate_preset_pass_manager(level, basis_gates=_standard_basis(facts[0]), seed_transpiler=seed)
    return generate_preset_pass_manager(level, target=_simulator(facts).target, seed_transpiler=seed)


@lru_cache(maxsize=8)
def _simulator(facts: Facts) -> Any:  # noqa: ANN401 - qiskit ships no types
    """Making one with noise takes seconds, without it a fraction of a millisecond."""
    method, noise, device, custatevec, max_memory_mb = facts
    limits: dict[str, Any] = {"max_memory_mb": max_memory_mb, "max_parallel_threads": 1}
    if noise is not None:
        return AerSimulator.from_backend(_fake_backend(noise), **limits)
    if device != "CPU":
        limits = {"max_parallel_threads": 1, "device": device, "cuStateVec_enable": custatevec}
    return AerSimulator(method=method, **limits)


def _probe(method: str, *, custatevec: bool) -> dict[str, Any]:
    """Two qubits on the GPU: ``reason`` is None when it ran there, else what Aer said."""
    request = {
        "source": _PROBE,
        "language": Language.OPENQASM_2,
        "method": method,
        "noise_backend": None,
        "device": "GPU",
        "custatevec": custatevec,
        "max_memory_mb": 0,
        "optimization_level": None,
        "seed": 1,
        "shots": 10,
    }
    try:
        answer = _simulate(request)
    except (AerError, RuntimeError) as error:  # RuntimeError: what Aer's C++ part throws
        return {"reason": f"Aer: {str(error).strip(chr(34))[:200]}"}
    except CannotRun as refusal:
        return {"reason": refusal.message}
    if answer["device"] != "GPU":
        return {"reason": f"Aer ran it on the {answer['device']} instead"}
    if answer["counts"] != {"11": 10}:
        return {"reason": "the GPU computes wrong: it does not find |11> where both qubits were flipped"}
    return {"reason": None}


@lru_cache(maxsize=8)
def _fake_backend(name: str) -> Any:  # noqa: ANN401 - qiskit ships no types
    from qiskit_ibm_runtime import fake_provider  # noqa: PLC0415

    # The provider's own list makes every one of them.
    known: dict[str, Any] = {
        backend: made for made in vars(fake_provider).values() if isinstance(backend := _backend_name(made), str)
    }
    if name not in known:
        raise CannotRun(
            f"there is no fake backend {name!r}; known are {', '.join(sorted(known)[:8])} …", reason="backend"
        )
    return known[name]()


def _backend_name(made: Any) -> object:  # noqa: ANN401 - qiskit ships no types
    return getattr(made, "backend_name", None) if isinstance(made, type) else None


def _describe_backend(name: str) -> dict[str, Any]:
    backend = _fake_backend(name)
    qubits = [backend.qubit_properties(index) for index in range(backend.num_qubits)]
    coupling = [list(pair) for pair in backend.coupling_map.get_edges()]
    return {
        "num_qubits": backend.num_qubits,
        "basis_gates": list(backend.operation_names),
        "extras": {
            "method": "automatic, with noise",
            "noise_backend": name,
            "coupling_map": coupling,
            "t1_seconds": [getattr(qubit, "t1", None) for qubit in qubits],
            "t2_seconds": [getattr(qubit, "t2", None) for qubit in qubits],
        },
    }
