"""A lab's own nodes, as an operator writes them: qiskit is imported where a circuit runs, and nowhere else."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from qcompute.cluster import NodeProvider, NodeType, QPUNodeSpec
from qcompute.connections.credentials import named
from qcompute.errors import QuotaSpent
from qcompute.units import Counts


def simulated(circuit: Any, shots: int) -> Counts:
    """Qiskit's own simulator: slow, and right."""
    from qiskit.providers.basic_provider import BasicSimulator  # noqa: PLC0415 - only in the child

    simulator: Any = BasicSimulator()
    return simulator.run(circuit, shots=shots).result().get_counts()


class LabSimulator(NodeProvider):
    """Nodes that simulate, and may be asked again."""

    DISPLAY_NAME: ClassVar[str] = "Lab simulator"
    repeatable: ClassVar[bool] = True

    @override
    def build_nodes(self, n_nodes: int = 2, max_qubits: int = 5, tags: Any = (), **kwargs: Any) -> list[QPUNodeSpec]:
        return [
            QPUNodeSpec(
                f"lab-{number}",
                NodeType.CPU_NUMPY,
                max_qubits,
                tags=["lab", *tags],
                credentials=dict(kwargs.get("credentials", {})),
                metadata=kwargs,
            )
            for number in range(n_nodes)
        ]

    @override
    def execute(self, circuit: Any, shots: int, node_spec: QPUNodeSpec) -> Counts | None:
        if "log" in node_spec.metadata:
            with Path(node_spec.metadata["log"]).open("a", encoding="utf-8") as log:
                log.write(f"{node_spec.node_id} {shots}\n")
        while "waits_for" in node_spec.metadata and not Path(node_spec.metadata["waits_for"]).exists():
            time.sleep(0.02)
        return _answer(str(node_spec.metadata.get("answer", "")), circuit, shots)


class LabMachine(LabSimulator):
    """The same as a machine whose runs cost something."""

    DISPLAY_NAME: ClassVar[str] = "Lab machine"
    repeatable: ClassVar[bool] = False


class LabWithoutExecute(NodeProvider):
    """Somebody forgot it."""

    @override
    def build_nodes(self, **kwargs: Any) -> list[QPUNodeSpec]:
        return [QPUNodeSpec("forgotten", NodeType.QPU_IONQ, 4)]


def _answer(what: str, circuit: Any, shots: int) -> Any:
    match what:
        case "nothing":
            return None
        case "not implemented":
            raise NotImplementedError
        case "raises":
            raise RuntimeError("https://user:hunter2@lab.example said no")
        case "no credit":
            raise QuotaSpent("the lab's account is empty")
        case "nonsense":
            return {"00": shots + 1, "1": 1}
        case "dies":
            os._exit(3)
        case "never ends":
            time.sleep(600)
        case "environment":
            bits = "0" * (circuit.num_clbits - 1)
            known = named("lab_key").reveal() == "a-lab-key" and "QCOMPUTE_SECRET_OTHER" not in os.environ
            return {bits + ("1" if known else "0"): shots}
        case _:
            pass
    return simulated(circuit, shots)
