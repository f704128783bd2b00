"""IBM's request bodies and results, made and read by IBM's own code. Imported in a sandboxed child only.

Uses the inner parts of qiskit-ibm-runtime 0.51 that its ``executor_sampler.Sampler`` and its jobs are made of; a test
holds what is made here against what that sampler really sends.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import base64
import io
from collections import Counter, defaultdict
from typing import Any

from qiskit import QuantumCircuit, qpy
from qiskit.transpiler import PassManager
from qiskit_ibm_runtime.decoders.executor.decoder import AVAILABLE_DECODERS
from qiskit_ibm_runtime.executor import Executor
from qiskit_ibm_runtime.executor_sampler.prepare import prepare
from qiskit_ibm_runtime.options_models.sampler import SamplerOptions
from qiskit_ibm_runtime.quantum_program.params_converters import QUANTUM_PROGRAM_PARAMS_CONVERTERS
from qiskit_ibm_runtime.transpiler.passes import FoldRzzAngle

from qcompute.circuits.measurement import MeasurementMap
from qcompute.errors import BadReply, CannotRun


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Sandbox entry: ``task`` is ``encode`` or ``decode``."""
    return _encode(request) if request["task"] == "encode" else _decode(request)


def _encode(request: dict[str, Any]) -> dict[str, Any]:
    """``params`` of ``POST /jobs`` for ``circuits`` (base64 of QPY), ``shots`` each; the tags are in them once more."""
    options = SamplerOptions(max_execution_time=request["max_execution_seconds"])
    options.environment.job_tags = request["tags"]
    circuits = [_loaded(text) for text in request["circuits"]]
    program, executor_options = prepare(circuits, options, request["shots"])
    # The next two lines are Sampler.run's and Executor.run's own.
    program._semantic_role = "sampler_v2"  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    converter = QUANTUM_PROGRAM_PARAMS_CONVERTERS[Executor._SCHEMA_VERSION]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return {"params": converter.encoder(program, executor_options).model_dump(mode="json")}


def _loaded(text: str) -> QuantumCircuit:
    circuit = qpy.load(io.BytesIO(base64.b64decode(text)))[0]
    # IBM's rzz takes angles from 0 to pi/2 only; the pass adds other gates for the rest.
    return PassManager([FoldRzzAngle()]).run(circuit) if "rzz" in circuit.count_ops() else circuit


def _decode(request: dict[str, Any]) -> dict[str, Any]:
    """Counts and shots of circuit ``index`` of ``result``.

    IBM's arrays are (shots, bits) of one register each; column k is bit k.
    """
    decoders: dict[str, Any] = dict(AVAILABLE_DECODERS)
    result, index = request["result"], request["index"]
    version = str(result.get("schema_version")) if isinstance(result, dict) else "none"
    if version not in decoders:
        raise CannotRun(f"its schema version is {version[:20]!r}", reason="bad_reply")
    decoder, model = decoders[version]
    circuits = decoder(model.model_validate(result))
    if index >= len(circuits):
        raise CannotRun(f"it has {len(circuits)} circuits and number {index + 1} was asked for", reason="bad_reply")
    rows = _rows(circuits[index])
    measurement = MeasurementMap.model_validate(request["measurement"])
    return {"counts": _counts(measurement, rows), "shots": sum(rows.values())}


Row = tuple[tuple[str, bytes], ...]
"""One shot: each register's name and its bits, a byte each, bit 0 first."""


def _rows(circuit: Any) -> Counter[Row]:  # noqa: ANN401 - qiskit ships no types
    """How often each outcome came."""
    registers = [[(name, row.tobytes()) for row in array.astype("uint8")] for name, array in circuit.items()]
    try:
        return Counter(zip(*registers, strict=True))
    except ValueError:
        raise CannotRun("its registers have different numbers of shots", reason="bad_reply") from None


def _counts(measurement: MeasurementMap, rows: Counter[Row]) -> dict[str, int]:
    """Outcomes that came equally often are read together: reading is slow, and most come once."""
    alike: defaultdict[int, list[dict[str, bytes]]] = defaultdict(list)
    for row, times in rows.items():
        alike[times].append(dict(row))
    counts: Counter[str] = Counter()
    try:
        for times, shots in alike.items():
            for key, number in measurement.counts_from_registers(shots).items():
                counts[key] += number * times
    except BadReply as error:
        raise CannotRun(error.message, reason="bad_reply") from None
    return dict(sorted(counts.items()))
