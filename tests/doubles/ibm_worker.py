"""Computes for the double of IBM: ``task`` is ``configuration``, ``properties``, ``run``, ``gates`` or ``client``.

What can be is IBM's own: the fake backends' data, the schemas of the executor program, the local executor that IBM's
testing mode uses, and Aer below it, without noise. ``client`` lets IBM's unchanged client submit to a double: what it
sends is what ours has to send. It needs a worker of its own, as the double asks the shared one meanwhile.
"""

# qiskit and IBM's client ship no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from ibm_quantum_schemas.executor import version_2_0 as schema
from ibm_quantum_schemas.executor.version_2_0 import models
from qiskit import qpy
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime import QiskitRuntimeService, fake_provider
from qiskit_ibm_runtime.executor_sampler import Sampler
from qiskit_ibm_runtime.fake_provider.executor.run_quantum_program import run_quantum_program
from qiskit_ibm_runtime.options_models.simulator import SimulatorOptions
from qiskit_ibm_runtime.quantum_program.converters import quantum_program_from_2_0
from qiskit_ibm_runtime.quantum_program.converters.converters_2_0 import passthrough_data_to_2_0

from tests.doubles.worker import serve

SEED = 7


def answer(request: dict[str, Any]) -> Any:
    tasks = {"configuration": configuration, "properties": properties, "run": run, "gates": gates, "client": client}
    return tasks[request["task"]](request)


@cache
def backend(name: str) -> Any:
    """``ibm_manila`` is IBM's ``FakeManilaV2``, ``ibm_fez`` its ``FakeFez``."""
    title = f"Fake{name.removeprefix('ibm_').title()}"
    return (getattr(fake_provider, f"{title}V2", None) or getattr(fake_provider, title))()


def configuration(request: dict[str, Any]) -> Any:
    made = backend(request["backend"])
    return _json(made._get_conf_dict_from_json() | {"backend_name": request["backend"], "simulator": False})


def properties(request: dict[str, Any]) -> Any:
    made = backend(request["backend"])
    made._set_props_dict_from_json()
    return _json(made._props_dict | {"backend_name": request["backend"]})


def run(request: dict[str, Any]) -> Any:
    """The result of one job of the executor program."""
    program, _ = quantum_program_from_2_0(schema.ParamsModel.model_validate(request["params"]))
    began = dt.datetime.now(dt.UTC)
    result = run_quantum_program(AerSimulator(), program, SimulatorOptions(seed_simulator=SEED))
    items = [
        models.QuantumProgramResultItemModel(
            results={name: models.CompressedTensorModel.from_numpy(array) for name, array in dict(item).items()},
            metadata=models.ItemMetadataModel(),
        )
        for item in result
    ]
    parts = [
        models.ChunkPart(idx_item=index, size=1, permutation=[], element_range=(0, 1, 1)) for index in range(len(items))
    ]
    span = models.ChunkSpan(start=began, stop=dt.datetime.now(dt.UTC), parts=parts)
    return schema.QuantumProgramResultModel(
        data=items,
        metadata=models.MetadataModel(chunk_timing=[span]),
        passthrough_data=passthrough_data_to_2_0(program.passthrough_data),
        semantic_role=program._semantic_role,
    ).model_dump(mode="json")


def gates(request: dict[str, Any]) -> Any:
    """For each circuit of a job's body its gates, ``[name, angles]``."""
    program, _ = quantum_program_from_2_0(schema.ParamsModel.model_validate(request["params"]))
    return [
        [[str(step.operation.name), [float(angle) for angle in step.operation.params]] for step in one.circuit.data]
        for one in program.items
    ]


def client(request: dict[str, Any]) -> Any:
    """Submit with IBM's own client: its constructor, its sampler."""
    os.environ |= {"IAM_URL": request["url"], "QISKIT_FUNCTIONS_EXPERIMENTAL": "1", "USAGE_DATA_OPT_OUT": "True"}
    service = QiskitRuntimeService(
        channel="ibm_quantum_platform",
        token=request["token"],
        url=request["url"],
        instance=request["instance"],
        url_resolver=_resolver(request["url"]),
    )
    sampler = Sampler(mode=service.backend(request["backend"]))
    sampler.options.environment.job_tags = request["tags"]
    sampler.options.max_execution_time = request["max_execution_seconds"]
    circuits = [qpy.load(io.BytesIO(base64.b64decode(text)))[0] for text in request["circuits"]]
    job: Any = sampler.run(circuits, shots=request["shots"])
    counts = [_counts(one) for one in job.result(timeout=60)]
    return {"job_id": job.job_id(), "counts": counts}


def _resolver(url: str) -> Callable[[str, str, bool | None, str], str]:
    return lambda _url, _instance, _private, _channel: f"{url}/api/v1"


def _counts(result: Any) -> dict[str, int]:
    return {str(key): int(value) for key, value in result.join_data().get_counts().items()}


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=_plain_value))


def _plain_value(value: Any) -> Any:
    return [value.real, value.imag] if isinstance(value, complex) else value.isoformat()


if __name__ == "__main__":
    serve(answer)
