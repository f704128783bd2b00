"""Common clusters in one call: what is named is there, and nothing stands for anything else."""

from __future__ import annotations

import inspect

import pytest

from qcompute import cluster
from qcompute.cluster import (
    NodeType,
    make_azure_cheap_cluster,
    make_hybrid_cluster,
    make_local_cluster,
    make_lumi_cluster,
)
from qcompute.errors import Unavailable
from tests.unit.cluster.test_builtin import RESOURCE, SUBSCRIPTION


@pytest.mark.parametrize(
    ("name", "defaults"),
    [
        ("make_local_cluster", {"n_cpu_nodes": 4, "n_gpu_sv_nodes": 0, "n_gpu_mps_nodes": 0}),
        (
            "make_lumi_cluster",
            {"gpus_per_node": 8, "lumi_host": "lumi", "lumi_project": "", "include_local_fallback": True},
        ),
        ("make_azure_cheap_cluster", {"include_local_mps": True}),
        (
            "make_hybrid_cluster",
            {"lumi_nodes": 2, "azure_resource_id": "", "subscription_id": "", "ibm_token": "", "include_local": True},
        ),
    ],
)
def test_arguments_and_defaults_are_those_of_the_specification(name: str, defaults: dict[str, object]) -> None:
    parameters = inspect.signature(getattr(cluster, name)).parameters
    given = {key: one.default for key, one in parameters.items() if one.default is not inspect.Parameter.empty}
    assert {key: given[key] for key in defaults} == defaults
    by_place = [key for key, one in parameters.items() if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert by_place[-len(defaults) :] == list(defaults), "in the specification's order, by place too"


def test_a_local_cluster() -> None:
    with make_local_cluster(2) as local:
        assert [node.node_type for node in local.online_nodes] == [NodeType.CPU_AER] * 2


def test_local_nodes_beside_lumi_are_nodes_of_their_own() -> None:
    """LUMI cannot be reached from here: its nodes stay LUMI's, offline, and say why."""
    with make_lumi_cluster(2, gpus_per_node=1) as registry:
        assert {node.node_id for node in registry.online_nodes} == {f"local-cpu-{number}" for number in range(4)}
        away = registry.find(tag="lumi", online=False)
        assert len(away) == 4
        assert all("lumi_amd_gpu" in (node.offline_reason or "") for node in away)


def test_without_them_there_is_no_cluster() -> None:
    with pytest.raises(Unavailable, match="lumi_amd_gpu"):
        make_lumi_cluster(1, include_local_fallback=False)


def test_the_cheap_azure_cluster_names_the_secret_it_lacks() -> None:
    with pytest.raises(Unavailable, match="QCOMPUTE_SECRET_AZURE_QUANTUM"):
        make_azure_cheap_cluster(RESOURCE, SUBSCRIPTION)


def test_a_hybrid_cluster_has_what_is_named() -> None:
    with make_hybrid_cluster(0, ibm_token="ibm_lab") as hybrid:
        assert list(hybrid.problems) == ["ibm_quantum", "local_gpu_mps"]
        assert "set instance to the CRN" in hybrid.problems["ibm_quantum"]
        assert len(hybrid.online_nodes) == 4
    with make_hybrid_cluster(1, RESOURCE, SUBSCRIPTION) as hybrid:
        assert list(hybrid.problems) == ["lumi_amd_gpu", "azure_quantum", "local_gpu_mps"]


def test_a_token_is_not_taken_for_its_name() -> None:
    with pytest.raises(ValueError, match="no name of a secret"):
        make_hybrid_cluster(0, ibm_token="0f3a9c5b7e1d2f4a6b8c")
