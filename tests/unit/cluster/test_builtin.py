"""The nine built-in providers: their nodes, and the adapters that are made for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qcompute.cluster import AccountSetup, NodeProviderRegistry, NodeType, QPUNodeSpec
from qcompute.cluster.builtin import local
from qcompute.cluster.builtin.late import LateAdapter
from qcompute.cluster.builtin.vendor import VendorProvider
from qcompute.errors import CannotRun, ConfigError, Unavailable
from qcompute.miner.providers.azure import AzureAdapter
from qcompute.miner.providers.base import JobHandle, ProviderAdapter
from qcompute.miner.providers.braket import BraketAdapter
from qcompute.miner.providers.ibm import IbmAdapter
from qcompute.miner.providers.rest import RestAdapter

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
RESOURCE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/lab/providers/Microsoft.Quantum/Workspaces/bench"
CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/0:1::"
ARN = "arn:aws:braket:eu-north-1::device/qpu/iqm/Garnet"
SV1 = "arn:aws:braket:::device/quantum-simulator/amazon/sv1"
GIB = 1 << 30


def built(key: str, **arguments: Any) -> list[QPUNodeSpec]:
    return NodeProviderRegistry.instantiate(key, **arguments)[1]


def config(key: str, **arguments: Any) -> dict[str, Any]:
    cls: Any = NodeProviderRegistry.get(key)
    return cls().config(cls.arguments(arguments))


def opened(key: str, folder: Path, settings: dict[str, Any] | None = None, **arguments: Any) -> ProviderAdapter:
    provider, nodes = NodeProviderRegistry.instantiate(key, **arguments)
    return provider.open_adapter(nodes, AccountSetup("mine", folder, arguments, settings or {}))


def test_local_nodes_are_processes_of_one_device_and_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """30 qubits need 16 GiB: of 40 GiB two nodes hold that, and four do not."""
    monkeypatch.setattr(local, "machine_bytes", lambda: 40 * GIB)
    two, four = built("local_cpu", n_nodes=2), built("local_cpu", n_nodes=4)
    assert [(node.max_qubits, node.device_id) for node in two] == [(30, "aer_automatic")] * 2
    assert [node.max_qubits for node in four] == [29] * 4
    assert "note" not in two[0].metadata
    assert four[0].metadata["note"] == "30 qubits do not fit: 40960 MiB for 4 nodes"
    assert config("local_cpu", n_nodes=4)["processes"] == 4
    assert config("local_cpu", n_nodes=2)["memory_bytes"] == 16 * GIB + (700 << 20)
    assert config("local_cpu", max_qubits=2)["memory_bytes"] == 2 * GIB


@pytest.mark.parametrize(
    ("key", "width", "kind"),
    [
        ("local_gpu_aer", 32, NodeType.GPU_AER),
        ("local_gpu_mps", 4096, NodeType.GPU_TENSOR),
        ("local_gpu_cuquantum", 36, NodeType.GPU_AER),
    ],
)
def test_gpu_nodes_have_the_specification_s_defaults_and_one_device(key: str, width: int, kind: NodeType) -> None:
    (node,) = built(key)
    assert (node.max_qubits, node.node_type, node.device_type) == (width, kind, "SIMULATOR")
    assert len({node.device_id for node in built(key, n_nodes=3)}) == 1
    assert ("low entanglement" in node.metadata.get("note", "")) == (kind is NodeType.GPU_TENSOR)
    assert config(key, n_nodes=3)["device"] == "GPU"
    assert config(key).get("custatevec", False) == (key == "local_gpu_cuquantum")


@pytest.mark.parametrize("key", ["local_cpu", "local_gpu_aer"])
def test_every_process_of_a_local_account_is_a_place_for_a_part(key: str, tmp_path: Path) -> None:
    """``aer`` had ceased to say how many run at once: ``routing.split_shots_from`` split nothing on four free cores."""
    adapter = opened(key, tmp_path, n_nodes=4, max_qubits=3)
    try:
        assert adapter.limits().max_running_jobs == 4
    finally:
        adapter.close()


class Opens:
    """Opens at the third try."""

    def __init__(self, adapter: ProviderAdapter) -> None:
        self.adapter, self.tries = adapter, 0

    def __call__(self) -> ProviderAdapter:
        self.tries += 1
        if self.tries < 3:
            raise ConfigError(f"no GPU ({self.tries})")
        return self.adapter


def test_what_cannot_run_yet_is_never_offered_and_comes_when_it_can(tmp_path: Path) -> None:
    make = Opens(opened("local_cpu", tmp_path, max_qubits=4))
    late = LateAdapter(make)
    handle = JobHandle(provider_job_id="earlier", device_id="aer_automatic")
    assert (late.list_devices(), late.list_capabilities(), late.get_capability()) == ([], [], None)
    availability = late.get_availability()
    assert availability is not None
    assert (availability.is_available, availability.status_msg) == (False, "no GPU (1)")
    with pytest.raises(Unavailable, match=r"no GPU \(1\)"):
        late.submit("circuit")
    with pytest.raises(Unavailable, match=r"no GPU \(1\)"):
        late.poll(handle)
    with pytest.raises(ConfigError, match=r"no GPU \(2\)"):
        late.open_now()
    with pytest.raises(Unavailable, match=r"no GPU \(2\)"):
        late.get_job_receipt(handle)
    late.open_now()
    late.open_now()
    assert make.tries == 3
    assert late.list_devices() == make.adapter.list_devices()
    assert late.poll(handle).status == "UNKNOWN"
    assert late.idempotency is make.adapter.idempotency
    late.close()
    late.close()
    with pytest.raises(Unavailable, match="closed"):
        late.poll(handle)
    late.open_now()
    assert late.list_devices() == []


def test_lumi_s_nodes_are_dies_and_what_fits_into_them() -> None:
    """64 GiB hold 31 qubits and Aer; the specification says 34, which are 256 GiB."""
    nodes = built("lumi_amd_gpu", n_nodes=2, gpus_per_node=8)
    dies = [node for node in nodes if node.node_type is NodeType.GPU_AER]
    networks = [node for node in nodes if node.node_type is NodeType.GPU_TENSOR]
    assert (len(dies), len(networks)) == (16, 2)
    assert dies[0].node_id == "lumi-n00-gcd0"
    assert {node.max_qubits for node in dies} == {31}
    assert dies[0].metadata["note"].startswith("34 qubits do not fit into the 64 GiB of a die; ")
    assert all("not on the GPU" in node.metadata["note"] for node in nodes)
    assert networks[0].max_qubits == 2000
    assert "low entanglement" in networks[0].metadata["note"]


def test_lumi_is_a_profile_of_slurm() -> None:
    table = config("lumi_amd_gpu", n_nodes=3, gpus_per_node=2, lumi_project="project_465002463", max_qubits_sv=30)
    assert table == {
        "profile": "lumi",
        "mode": "slurm",
        "submit_host": "lumi",
        "partition": "small-g",
        "gpus_per_node": 2,
        "cores": 14,
        "worker_memory_bytes": 112 * GIB,
        "memory_bytes": 16 * GIB + (700 << 20),
        "walltime": "04:00:00",
        "jobs_max": 3,
        "account": "project_465002463",
    }
    assert config("lumi_amd_gpu", n_nodes=1)["partition"] == "standard-g"
    assert config("lumi_amd_gpu", n_nodes=1, partition="dev-g", container="/a.sif")["partition"] == "dev-g"


def test_lumi_that_cannot_be_opened_is_refused_and_never_runs_here(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cluster account 'mine': "):
        opened("lumi_amd_gpu", tmp_path, n_nodes=1)


def test_azure_targets_are_nodes_and_the_estimator_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_AZURE_QUANTUM", "key")
    arguments: dict[str, Any] = {"azure_resource_id": RESOURCE, "subscription_id": SUBSCRIPTION}
    rigetti, quantinuum, ionq, estimator = built("azure_quantum", **arguments)
    assert (quantinuum.max_qubits, ionq.max_qubits) == (56, 35)
    assert rigetti.credentials == {"access_key": "azure_quantum"}
    assert not estimator.online
    assert "no circuit" in (estimator.offline_reason or "")
    adapter = opened("azure_quantum", tmp_path, **arguments)
    assert isinstance(adapter, AzureAdapter)
    ids = [device.device_id for device in adapter.list_devices()]
    adapter.close()
    assert ids == [rigetti.node_id, quantinuum.node_id, ionq.node_id]


def test_azure_takes_a_service_principal_and_says_what_is_a_simulator() -> None:
    principal = {"tenant_id": "t", "client_id": "c", "client_secret": "azure_app"}
    arguments = {"azure_resource_id": RESOURCE, "subscription_id": SUBSCRIPTION, "targets": ["ionq.simulator"]}
    (node,) = built("azure_quantum", **arguments, **principal)
    assert node.credentials == {"client_secret": "azure_app"}
    table = config("azure_quantum", **arguments, **principal)
    assert {name: table[name] for name in principal} == principal
    assert "access_key" not in table
    assert (table["resource_group"], table["workspace"]) == ("lab", "bench")
    (qvm,) = built("azure_quantum", **arguments | {"targets": ["rigetti.sim.qvm"]})
    assert qvm.device_type == "SIMULATOR"


def test_azure_s_resource_and_subscription_must_agree() -> None:
    with pytest.raises(ValueError, match="another subscription"):
        built("azure_quantum", azure_resource_id=RESOURCE, subscription_id=SUBSCRIPTION.replace("1", "9"))


def test_ibm_needs_the_instance_that_pays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_IBM_LAB", "key")
    assert built("ibm_quantum", ibm_token="ibm_lab") == []
    (node,) = built("ibm_quantum", ibm_token="ibm_lab", backends=["ibm_torino"])
    assert (node.node_id, node.max_qubits, node.credentials) == ("ibm_torino", 0, {"token": "ibm_lab"})
    with pytest.raises(ConfigError, match="old platform, which has ended: set instance to the CRN"):
        opened("ibm_quantum", tmp_path, ibm_token="ibm_lab")
    adapter = opened("ibm_quantum", tmp_path, ibm_token="ibm_lab", instance=CRN)
    adapter.close()
    assert isinstance(adapter, IbmAdapter)


def test_braket_looks_in_the_regions_of_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("QCOMPUTE_SECRET_AWS_SECRET_ACCESS_KEY", "key")
    arguments: dict[str, Any] = {"s3_bucket": "my-bucket", "devices": [ARN, SV1]}
    garnet, sv1 = built("aws_braket", **arguments)
    assert (garnet.device_type, sv1.device_type) == ("QPU", "SIMULATOR")
    assert garnet.tags == ["braket", "iqm"]
    table = config("aws_braket", **arguments)
    assert (table["regions"], table["include_simulators"]) == (["us-east-1", "eu-north-1"], True)
    assert table["key_prefix"] == "qcos"
    adapter = opened("aws_braket", tmp_path, **arguments)
    adapter.close()
    assert isinstance(adapter, BraketAdapter)


def test_endpoints_are_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_LAB_API", "key")
    urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    arguments: dict[str, Any] = {"endpoints": urls, "api_key": "lab_api", "timeout_s": 90}
    first, second = built("custom_rest", **arguments)
    assert (first.node_id, second.node_id, first.max_qubits) == ("rest_1", "rest_2", 30)
    assert (first.metadata["url"], first.credentials) == ("http://127.0.0.1:1", {"api_key": "lab_api"})
    table = config("custom_rest", **arguments)
    assert (table["submit_seconds"], table["device_type"], table["token"]) == (90.0, "SIMULATOR", "lab_api")
    adapter = opened("custom_rest", tmp_path, {"health_path": ""}, **arguments, node_type="qpu_ionq")
    devices = adapter.list_devices()
    adapter.close()
    assert isinstance(adapter, RestAdapter)
    assert [(device.device_id, device.device_type) for device in devices] == [("rest_1", "QPU"), ("rest_2", "QPU")]


def test_a_secret_that_is_not_set_is_named_with_its_account(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cluster account 'mine': .*QCOMPUTE_SECRET_NOWHERE"):
        opened("custom_rest", tmp_path, endpoints=["http://127.0.0.1:1"], api_key="nowhere")


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("local_cpu", {"n_nodes": True}),
        ("local_gpu_mps", {"max_qubits": True}),
        ("custom_rest", {"endpoints": ["http://127.0.0.1:1"], "timeout_s": True}),
    ],
)
def test_a_truth_value_is_no_number(key: str, arguments: dict[str, Any]) -> None:
    """``n_nodes = true`` was one node, and the check said that all is well."""
    with pytest.raises(
        ValueError, match=rf"{list(arguments)[-1]}: this is no switch: true and false say nothing here$"
    ):
        built(key, **arguments)


def test_health_of_a_provider_by_itself() -> None:
    for key, arguments, healthy in (
        ("local_cpu", {"max_qubits": 3}, True),
        ("custom_rest", {"endpoints": ["http://127.0.0.1:1"]}, False),
        ("lumi_amd_gpu", {"n_nodes": 1}, False),
    ):
        provider, _ = NodeProviderRegistry.instantiate(key, **arguments)
        assert isinstance(provider, VendorProvider)
        assert provider.health_check() is healthy
        provider.close()
        provider.close()


def test_a_circuit_wider_than_a_node_is_said_to_be_is_refused() -> None:
    """``max_qubits = 1`` was printed with the node, and circuits of any width that fit into memory ran on it."""
    provider, (node,) = NodeProviderRegistry.instantiate("local_cpu", max_qubits=1)
    assert isinstance(provider, VendorProvider)
    source = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\nx q[1];\nmeasure q -> c;\n'
    with pytest.raises(CannotRun, match="the circuit has 2 qubits and aer_automatic has 1"):
        provider.execute(source, 20, node)
    provider.close()


def test_a_provider_by_itself_runs_a_circuit_on_its_adapter() -> None:
    provider, (node,) = NodeProviderRegistry.instantiate("local_cpu", max_qubits=3)
    assert isinstance(provider, VendorProvider)
    source = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\nx q[1];\nmeasure q -> c;\n'
    assert provider.execute(source, 20, node) == {"10": 20}
    provider.close()
