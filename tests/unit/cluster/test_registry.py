"""Providers by their keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typing_extensions import override

from qcompute.cluster import NodeProvider, NodeProviderRegistry, NodeType, QPUNodeSpec
from qcompute.cluster.builtin.local import LocalCpu
from tests.providers.lab_nodes import LabMachine, LabSimulator

NINE = [
    "aws_braket",
    "azure_quantum",
    "custom_rest",
    "ibm_quantum",
    "local_cpu",
    "local_gpu_aer",
    "local_gpu_cuquantum",
    "local_gpu_mps",
    "lumi_amd_gpu",
]


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(NodeProviderRegistry, "_registered", {})
    return iter([None])


def test_the_built_in_ones_are_there() -> None:
    assert list(NodeProviderRegistry.list()) == NINE
    assert NodeProviderRegistry.list()["local_cpu"] == "Local CPU (Aer)"
    assert NodeProviderRegistry.get("local_cpu") is LocalCpu


def test_an_unknown_key_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match=r"no node provider 'lokal_cpu'; known are aws_braket, .*local_cpu"):
        NodeProviderRegistry.get("lokal_cpu")


def test_register_has_the_specification_s_argument_names() -> None:
    """``register(name=…, cls=…)``, as the specification writes it, raised TypeError."""
    NodeProviderRegistry.register(name="lab", cls=LabMachine)
    assert NodeProviderRegistry.get(name="lab") is LabMachine
    no_class: Any = "tests.providers.lab_nodes:LabMachine"
    with pytest.raises(TypeError, match="'lab' must be given a subclass of NodeProvider, not str"):
        NodeProviderRegistry.register("lab", no_class)


def test_a_registered_one_is_found_by_its_name_and_any_by_its_path() -> None:
    NodeProviderRegistry.register("lab", LabMachine)
    NodeProviderRegistry.register("lab", LabMachine)
    assert NodeProviderRegistry.get("lab") is LabMachine
    assert NodeProviderRegistry.list()["lab"] == "Lab machine"
    assert NodeProviderRegistry.get("tests.providers.lab_nodes:LabMachine") is LabMachine


@pytest.mark.parametrize("taken", ["lab", "local_cpu"])
def test_a_taken_name_is_refused(taken: str) -> None:
    NodeProviderRegistry.register("lab", LabMachine)
    with pytest.raises(ValueError, match=f"'{taken}' exists already"):
        NodeProviderRegistry.register(taken, LabSimulator)


@pytest.mark.parametrize("name", ["", "My Lab", "a:b", "../x"])
def test_a_name_is_a_word(name: str) -> None:
    with pytest.raises(ValueError, match="small letters"):
        NodeProviderRegistry.register(name, LabMachine)


def test_what_is_no_provider_is_refused() -> None:
    with pytest.raises(TypeError, match="subclass of NodeProvider"):
        NodeProviderRegistry.register("text", str)


@pytest.mark.parametrize(
    "path", ["no_such_module_anywhere:X", "tests.providers.lab_nodes:X", "tests.providers.lab_nodes:simulated"]
)
def test_a_path_that_leads_to_no_provider_is_an_unknown_key(path: str) -> None:
    with pytest.raises(KeyError, match=path):
        NodeProviderRegistry.get(path)


def test_instantiate_makes_the_provider_and_its_nodes() -> None:
    provider, nodes = NodeProviderRegistry.instantiate("local_cpu", n_nodes=2, tags=["desk"])
    assert isinstance(provider, LocalCpu)
    assert [node.node_id for node in nodes] == ["local-cpu-0", "local-cpu-1"]
    assert all("desk" in node.tags for node in nodes)


class Fixed(NodeProvider):
    nodes: tuple[QPUNodeSpec, ...] = ()

    @override
    def build_nodes(self, **kwargs: Any) -> list[QPUNodeSpec]:
        return list(self.nodes)


class Twins(Fixed):
    nodes = (QPUNodeSpec("a", NodeType.CPU_AER, 1), QPUNodeSpec("a", NodeType.CPU_AER, 1))


@pytest.mark.parametrize(("cls", "told"), [(Fixed, "gave no node"), (Twins, "same id")])
def test_nodes_that_cannot_be_told_apart_or_are_not_there_are_refused(cls: type[NodeProvider], told: str) -> None:
    NodeProviderRegistry.register("bad", cls)
    with pytest.raises(ValueError, match=told):
        NodeProviderRegistry.instantiate("bad")


@pytest.mark.parametrize("built", [None, ["a"], [None], "ab"])
def test_what_is_no_list_of_nodes_is_refused(built: Any) -> None:
    """A list of names ended the start of the daemon with AttributeError."""

    class Wrong(NodeProvider):
        @override
        def build_nodes(self, **kwargs: Any) -> list[QPUNodeSpec]:
            return built

    NodeProviderRegistry.register("wrong", Wrong)
    with pytest.raises(ValueError, match="wrong: build_nodes must return a list of QPUNodeSpec"):
        NodeProviderRegistry.instantiate("wrong")
