"""The nodes of a built cluster."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typing_extensions import override

from qcompute.cluster import ClusterBuilder, NodeProvider, NodeType, QPUNodeSpec, QPURegistry
from qcompute.errors import CannotRun, Refused, VendorError
from qcompute.units import Counts

BELL = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\nh q[0];\ncx q[0], q[1];\nmeasure q -> c;\n'


class Echo(NodeProvider):
    @override
    def build_nodes(self, **kwargs: Any) -> list[QPUNodeSpec]:
        return []

    @override
    def execute(self, circuit: Any, shots: int, node_spec: QPUNodeSpec) -> Counts | None:
        return None if circuit == "nothing" else {node_spec.node_id: shots}


def node(node_id: str, kind: NodeType = NodeType.CPU_AER, width: int = 5, *tags: str, online: bool = True) -> Any:
    return QPUNodeSpec(node_id, kind, width, list(tags), credentials={"token": "ibm_lab"}, online=online)


@pytest.fixture
def registry() -> QPURegistry:
    made = QPURegistry()
    made.register(node("small", NodeType.CPU_AER, 5, "desk"), Echo())
    made.register(node("large", NodeType.QPU_IBM, 127, "cloud", "ibm"), Echo())
    made.register(node("down", NodeType.QPU_IBM, 156, "ibm").taken_offline("it is cold"), Echo())
    return made


def test_nodes_are_found_by_id_and_by_what_they_are(registry: QPURegistry) -> None:
    def ids(**wish: Any) -> list[str]:
        return [found.node_id for found in registry.find(**wish)]

    assert registry.get("large").max_qubits == 127
    assert ids() == ["small", "large"]
    assert ids(online=None) == ["small", "large", "down"]
    assert ids(online=False) == ["down"]
    assert ids(tag="ibm") == ["large"]
    assert ids(node_type=NodeType.CPU_AER) == ["small"]
    assert ids(min_qubits=6) == ["large"]
    assert ids(min_qubits=200) == []
    assert len(registry) == 3
    assert [one.node_id for one in registry] == [one.node_id for one in registry.nodes]


def test_an_unknown_id_names_known_ones(registry: QPURegistry) -> None:
    with pytest.raises(KeyError, match="no node 'larg'; there are small, large, down"):
        registry.get("larg")


def test_an_id_is_given_once(registry: QPURegistry) -> None:
    with pytest.raises(ValueError, match="a node 'small' already"):
        registry.register(node("small"), Echo())


def test_the_report_is_json_and_has_no_secrets(registry: QPURegistry) -> None:
    report = json.loads(json.dumps(registry.status_report()))
    assert (report["nodes"], report["online"]) == (3, 2)
    assert report["by_node"]["down"]["metadata"]["offline_reason"] == "it is cold"
    assert report["by_node"]["large"]["device_type"] == "QPU"
    assert "ibm_lab" not in json.dumps(report)


def test_a_circuit_runs_on_the_node_that_is_named_and_on_no_other(registry: QPURegistry) -> None:
    assert registry.execute("large", "circuit", 7) == {"large": 7}
    with pytest.raises(Refused, match="node down is offline: it is cold"):
        registry.execute("down", "circuit", 7)
    with pytest.raises(VendorError, match="Echo gave no counts for node large; nothing runs in its place"):
        registry.execute("large", "nothing", 7)
    with pytest.raises(KeyError):
        registry.execute("larger", "circuit", 7)


def test_a_program_without_execute_says_so() -> None:
    class Bare(NodeProvider):
        @override
        def build_nodes(self, **kwargs: Any) -> list[QPUNodeSpec]:
            return []

    with pytest.raises(NotImplementedError, match="Bare cannot run circuits"):
        Bare().execute("circuit", 1, node("n"))


def test_a_local_node_really_runs_text_and_qiskit_circuits() -> None:
    """Bit 0 is rightmost: of two qubits only the first is set."""
    from qiskit import QuantumCircuit  # noqa: PLC0415 - as in a user's own program

    circuit: Any = QuantumCircuit(2, 2)
    circuit.x(0)
    circuit.measure([0, 1], [0, 1])
    with ClusterBuilder().add("local_cpu", max_qubits=4).build() as cluster:
        assert cluster.execute("local-cpu-0", circuit, 50) == {"01": 50}
        counts = cluster.execute("local-cpu-0", BELL, 200)
        assert set(counts) <= {"00", "11"}
        assert sum(counts.values()) == 200
        with pytest.raises(CannotRun, match="qubits"):
            cluster.execute("local-cpu-0", BELL.replace("[2]", "[40]"), 1)
    cluster.close()
