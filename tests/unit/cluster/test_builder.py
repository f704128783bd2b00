"""A fleet in Python: the plan says what it would be, and building it says what is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typing_extensions import override

from qcompute.cluster import ClusterBuilder, NodeProvider, NodeProviderRegistry, NodeType, QPUNodeSpec
from qcompute.errors import AuthFailed, Unavailable
from qcompute.miner.limits import BudgetSettings
from tests.providers.lab_nodes import LabMachine


class Moody(LabMachine):
    """Its health is what the test says."""

    healthy: ClassVar[bool | Exception] = True

    @override
    def health_check(self) -> bool:
        if isinstance(self.healthy, Exception):
            raise self.healthy
        return self.healthy


class Untouchable(NodeProvider):
    @override
    def build_nodes(self, n_nodes: int = 1, **kwargs: Any) -> list[QPUNodeSpec]:
        raise AssertionError("a plan builds nothing")  # pragma: no cover


@pytest.fixture(autouse=True)
def providers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(NodeProviderRegistry, "_registered", {"moody": Moody, "untouchable": Untouchable})
    monkeypatch.setattr(Moody, "healthy", True)
    return iter([None])


def test_the_plan_of_the_specification_with_its_nodes_counted_right() -> None:
    """The specification's own example says 20 nodes and means 22."""
    plan = ClusterBuilder().add("lumi_amd_gpu", n_nodes=2, gpus_per_node=8).add("local_cpu", n_nodes=4).describe()
    assert plan == (
        "Cluster Plan:\n"
        "[0] lumi_amd_gpu — n_nodes=2, gpus_per_node=8\n"
        "[1] local_cpu — n_nodes=4\n"
        "Estimated nodes: 22 (16 SV + 2 MPS + 4 CPU)\n"
        "The width of MPS nodes holds for circuits of low entanglement only."
    )


def test_a_plan_makes_nothing_and_says_what_it_cannot_know() -> None:
    builder = ClusterBuilder().add("untouchable", n_nodes=3).add("ibm_quantum", ibm_token="ibm_lab", name="berlin")
    assert builder.describe() == (
        "Cluster Plan:\n"
        "[0] untouchable — n_nodes=3\n"
        "[1] ibm_quantum (berlin) — ibm_token='ibm_lab'\n"
        "Estimated nodes: 0\n"
        "and what there is when it is built: untouchable, berlin"
    )


def test_accounts_have_names_of_their_own() -> None:
    builder = ClusterBuilder()
    for _ in range(3):
        builder.add("local_cpu")
    builder.add("tests.providers.lab_nodes:LabMachine")
    assert [slot.name for slot in builder.slots] == ["local_cpu", "local_cpu_2", "local_cpu_3", "labmachine"]
    with pytest.raises(ValueError, match="two accounts of the cluster are named 'local_cpu_2'"):
        builder.add("local_cpu", name="local_cpu_2")
    with pytest.raises(ValueError, match="small letters"):
        builder.add("local_cpu", name="../etc")


@pytest.mark.parametrize(
    ("provider", "arguments", "told"),
    [
        ("local_cpu", {"n_nodez": 2}, r"Local CPU \(Aer\): n_nodez: .*did you mean n_nodes\?"),
        ("local_cpu", {"n_nodes": 0}, "n_nodes: "),
        ("lumi_amd_gpu", {}, "n_nodes: Field required"),
        ("lumi_amd_gpu", {"n_nodes": 1, "gpus_per_node": 9}, "gpus_per_node"),
        ("custom_rest", {}, "endpoints: Field required"),
        ("aws_braket", {}, "s3_bucket: Field required"),
        ("ibm_quantum", {}, "ibm_token: Field required"),
        ("ibm_quantum", {"ibm_token": "9f8e7d6c5b4a39281706"}, "ibm_token: this is no name of a secret"),
        ("ibm_quantum", {"ibm_token": "a", "settings": {"token": "Ab1!"}}, r"settings\.token: this is no name"),
        ("azure_quantum", {"azure_resource_id": "x", "subscription_id": "y"}, "azure_resource_id is /subscriptions"),
        ("moody", {"password": "Hunter2!"}, "moody: password: this is no name of a secret"),
    ],
)
def test_a_wrong_argument_is_told_where_it_is_written(provider: str, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told) as raised:
        ClusterBuilder().add(provider, **arguments)
    assert "9f8e7d6c" not in str(raised.value)
    assert "Hunter2" not in str(raised.value)


class Strict(LabMachine):
    @override
    def build_nodes(self, n_nodes: int) -> list[QPUNodeSpec]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().build_nodes(n_nodes)


def test_an_own_provider_s_signature_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NodeProviderRegistry, "_registered", {"strict": Strict})
    with pytest.raises(ValueError, match="strict: missing a required argument: 'n_nodes'"):
        ClusterBuilder().add("strict")
    with pytest.raises(ValueError, match="strict: got an unexpected keyword argument 'nodes'"):
        ClusterBuilder().add("strict", n_nodes=1, nodes=1)


def test_an_unknown_provider_is_an_error_at_once() -> None:
    with pytest.raises(KeyError, match="known are"):
        ClusterBuilder().add("lokal_cpu")


def test_what_is_given_in_python_is_kept_as_toml_has_it(tmp_path: Path) -> None:
    builder = ClusterBuilder().add(
        "custom_rest", endpoints=("http://a:1",), node_type=NodeType.QPU_IONQ, settings={"health_path": ""}
    )
    builder.add("moody", folder=tmp_path, none=None, budget=BudgetSettings(alert_at=0.5))
    rest, moody = builder.slots
    assert rest.arguments == {"endpoints": ["http://a:1"], "node_type": "qpu_ionq"}
    assert moody.arguments == {"folder": str(tmp_path)}
    assert moody.budget.alert_at == 0.5


def test_a_healthy_cluster_is_online() -> None:
    with ClusterBuilder().add("moody", n_nodes=2).build() as cluster:
        assert [node.node_id for node in cluster.online_nodes] == ["lab-0", "lab-1"]


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (False, "Lab machine says that it cannot be used: its health_check gave False"),
        (AuthFailed("the lab does not know us"), "the lab does not know us"),
        (OSError("https://me:hunter2@lab"), "Lab machine: its health check raised OSError"),
    ],
)
def test_nodes_of_an_unhealthy_provider_are_offline_with_the_reason_and_come_back(
    monkeypatch: pytest.MonkeyPatch, health: Any, reason: str
) -> None:
    monkeypatch.setattr(Moody, "healthy", health)
    with ClusterBuilder().add("moody").add("tests.providers.lab_nodes:LabMachine", n_nodes=1).build() as cluster:
        assert cluster.get("lab-0").metadata["offline_reason"] == reason
        assert [node.node_id for node in cluster.online_nodes] == ["labmachine/lab-0"]
        assert cluster.problems == {"moody": reason}
        monkeypatch.setattr(Moody, "healthy", True)
        cluster.refresh()
        assert cluster.get("lab-0").online
        assert "offline_reason" not in cluster.get("lab-0").metadata
        assert cluster.problems == {}


def test_if_all_fail_it_is_an_error_and_no_simulator_takes_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The specification builds its default simulation cluster then, and logs a warning."""
    monkeypatch.setattr(Moody, "healthy", False)
    with pytest.raises(Unavailable, match="no node of this cluster can be used: moody: Lab machine says"):
        ClusterBuilder().add("moody").build()


def test_an_empty_cluster_is_no_cluster() -> None:
    with pytest.raises(ValueError, match="add a provider first"):
        ClusterBuilder().build()


def test_each_account_has_its_own_folder(tmp_path: Path) -> None:
    built = ClusterBuilder().add("local_cpu").add("local_cpu").build(tmp_path)
    assert not list(tmp_path.iterdir()), "nothing was asked to run"
    for account in built._accounts:
        assert account.adapter is not None
        account.adapter.begin()
    built.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local_cpu", "local_cpu_2"]
