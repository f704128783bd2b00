"""What only the account's adapter knows: which devices there are, how wide, whether they are up, how a job ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typing_extensions import override

from qcompute.cluster import AccountSetup, ClusterBuilder, NodeProvider, NodeProviderRegistry, NodeType, QPUNodeSpec
from qcompute.cluster import execution as execution_module
from qcompute.cluster.execution import run_circuit
from qcompute.cluster.health import check_account, fitted, looked_up
from qcompute.cluster.spec import NOTE
from qcompute.cluster.spool import Spool
from qcompute.errors import BadReply, Refused, SandboxUnavailable, Unavailable, VendorError
from qcompute.miner.providers.base import (
    AvailabilityStatus,
    BaseExecutionStatus,
    Capability,
    Device,
    ImmediateAdapter,
    JobHandle,
    ProviderAdapter,
)
from qcompute.units import Counts

BELL = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\nh q[0];\ncx q[0], q[1];\nmeasure q -> c;\n'


class Cloud(ImmediateAdapter):
    """Two devices; the second is being repaired."""

    device_id, num_qubits = "near", 5
    status: ClassVar[str] = "COMPLETED"

    @override
    def run(self, circuit_data: str, shots: int) -> Counts:
        del circuit_data
        return {"01": shots}

    @override
    def list_devices(self) -> list[Device]:
        return [Device(device_id=name, provider="cloud", device_type="QPU") for name in ("near", "far")]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        return Capability(num_qubits=5 if device_id == "near" else 156)

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        up = device_id == "near"
        return AvailabilityStatus(is_available=up, status_msg=None if up else "being repaired")

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        return BaseExecutionStatus(status=self.status, message="the fridge is warm")


class CloudProvider(NodeProvider):
    """Only the cloud knows what it has."""

    default_type: ClassVar[NodeType | None] = NodeType.QPU_IBM

    @override
    def build_nodes(self, **kwargs: Any) -> list[QPUNodeSpec]:
        return [QPUNodeSpec(name, NodeType.QPU_IBM, 0) for name in kwargs.get("backends", ())]

    @override
    def open_adapter(self, nodes: Sequence[QPUNodeSpec], setup: AccountSetup) -> ProviderAdapter:
        return Cloud()

    @override
    def execute(self, circuit: Any, shots: int, node_spec: QPUNodeSpec) -> Counts | None:
        return run_circuit(Cloud(), node_spec.device_id, circuit, shots)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NodeProviderRegistry, "_registered", {"cloud": CloudProvider})


def test_without_names_every_device_of_the_account_is_a_node() -> None:
    with ClusterBuilder().add("cloud").build() as cluster:
        assert [(node.node_id, node.max_qubits, node.device_type) for node in cluster] == [
            ("near", 5, "QPU"),
            ("far", 156, "QPU"),
        ]
        assert cluster.get("far").offline_reason == "being repaired"
        assert cluster.execute("near", BELL, 9) == {"01": 9}


def test_a_device_that_is_named_and_not_there_is_offline() -> None:
    with ClusterBuilder().add("cloud", backends=["near", "gone"]).build() as cluster:
        assert cluster.get("near").max_qubits == 5
        assert cluster.get("gone").offline_reason == "the account has no device gone"


def test_a_node_is_no_wider_than_its_device_and_says_so() -> None:
    asked = QPUNodeSpec("near", NodeType.QPU_IBM, 20, metadata={NOTE: "as written"})
    (node,) = fitted([asked], Cloud())
    assert (node.max_qubits, node.metadata[NOTE]) == (5, "20 qubits asked for, near takes 5; as written")
    (fits,) = fitted([QPUNodeSpec("near", NodeType.QPU_IBM, 3)], Cloud())
    assert (fits.max_qubits, NOTE in fits.metadata) == (3, False)
    offline = QPUNodeSpec("nowhere", NodeType.QPU_IBM, 3).taken_offline("it runs no circuits")
    assert looked_up(CloudProvider(), [offline], Cloud()) == [offline]


def test_a_sandbox_that_does_not_start_is_a_reason_like_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process(_: NodeProvider) -> bool:
        raise SandboxUnavailable("no process could be started")

    monkeypatch.setattr(CloudProvider, "health_check", no_process)
    with pytest.raises(Unavailable, match="no process could be started"):
        check_account(CloudProvider(), Cloud())


def test_a_device_that_is_not_there_runs_nothing() -> None:
    with pytest.raises(Refused, match="no device 'gone'"):
        run_circuit(Cloud(), "gone", BELL, 5)


def test_a_job_that_did_not_complete_is_an_error_with_the_vendor_s_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cloud, "status", "FAILED")
    with pytest.raises(VendorError, match=r"near says FAILED of job .*: the fridge is warm"):
        run_circuit(Cloud(), "near", BELL, 5)


def test_a_status_nobody_knows_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cloud, "status", "PURPLE")
    monkeypatch.setattr(execution_module, "UNKNOWN_SECONDS", 0.0)
    with pytest.raises(BadReply, match="is unknown: the fridge is warm"):
        run_circuit(Cloud(), "near", BELL, 5)


def test_a_result_the_disk_does_not_take_is_still_answered(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", keep_days=3)
    spool.take()
    spool.put_job("job", {"created": 1.0})
    (tmp_path / "spool" / "job.result.json.partial").mkdir()
    spool.put_result("job", {"status": "COMPLETED"})
    assert spool.result("job") == {"status": "COMPLETED"}
    assert Spool(tmp_path / "spool", keep_days=3).result("job") is None
