"""The child's side of `qcompute.cluster.adapter.NodeAdapter`: makes the provider again and calls its ``execute``.

Runs in a process of `qcompute.circuits.sandbox` that keeps network and files, because the provider is the operator's
own code; the circuit is a stranger's, and has been screened and parsed in a confined process before.
"""

from __future__ import annotations

import importlib
import json
import sys
from functools import reduce
from typing import Any, Protocol, cast

from qcompute.circuits.counts import normalize_counts
from qcompute.circuits.parse import load_program
from qcompute.cluster.spec import NodeType, QPUNodeSpec
from qcompute.errors import QComputeError, VendorError
from qcompute.units import Counts


class _Executes(Protocol):
    def build_nodes(self, **kwargs: Any) -> object: ...  # noqa: ANN401 - each provider's own

    def execute(self, circuit: Any, shots: int, node_spec: QPUNodeSpec) -> object: ...  # noqa: ANN401 - qiskit ships no types


_made: dict[str, _Executes] = {}


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Sandbox entry: ``counts``, or ``status`` and ``message`` of a run that failed. Whatever it raises may have run.

    What ``execute`` raises is told by its type alone, because its text may hold anything; only the errors of
    `qcompute.errors` say what they say.
    """
    sys.path.extend(entry for entry in request["path"] if entry not in sys.path)
    name = str(request["provider"])
    try:
        return {"counts": _counts(name, request)}
    except NotImplementedError:
        message = "cannot run circuits (NotImplementedError): it ran nothing, and nothing runs in its place"
    except QComputeError as error:
        message = error.message
    except Exception as error:  # noqa: BLE001 - an operator's code may raise anything; its text may hold a secret
        message = f"raised {type(error).__name__}"
    return {"status": "FAILED", "message": f"{name}: {message}"}


def _counts(name: str, request: dict[str, Any]) -> Counts:
    provider = _provider(name, request["arguments"])
    circuit = load_program(request["source"])
    node = QPUNodeSpec(**request["node"] | {"node_type": NodeType(request["node"]["node_type"])})
    answer = provider.execute(circuit, request["shots"], node)
    if answer is None:
        raise VendorError(f"execute gave no counts (None) on {node.node_id!r}, and nothing runs in its place")
    return normalize_counts(answer, shots=request["shots"], num_clbits=circuit.num_clbits)


def _provider(path: str, arguments: dict[str, Any]) -> _Executes:
    key = json.dumps([path, arguments], sort_keys=True)
    if key not in _made:
        module, _, name = path.partition(":")
        made = reduce(getattr, name.split("."), cast("Any", importlib.import_module(module)))()
        made.build_nodes(**arguments)
        _made[key] = made
    return _made[key]
