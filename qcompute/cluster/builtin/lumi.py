"""LUMI: a profile of the ``dask`` adapter on SLURM, which keeps one pilot worker in each allocation.

Nothing of it ever runs on this machine: where the adapter cannot be opened, the nodes are offline and say why. On LUMI
the workers' Aer runs on the cores that go with a die, because the ``dask`` adapter uses no GPUs; every node says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from pydantic import BaseModel, Field
from typing_extensions import override

from qcompute.cluster.builtin.vendor import NodeArguments, VendorProvider
from qcompute.cluster.spec import DEVICE, LOW_ENTANGLEMENT, NOTE, NodeType, QPUNodeSpec
from qcompute.units import ProviderKey
from qcompute.vendor.aer.methods import LEAST_BYTES, statevector_bytes

MAX_GCDS: Final = 8
"""GPU dies of one LUMI-G node: four MI250X of two."""

DIE_CORES: Final = 7
DIE_MEMORY_BYTES: Final = 56 << 30
"""What goes with one die: an eighth of the node's cores and of the memory jobs may use (LUMI's users' guide)."""

CORES_ONLY: Final = "its circuits run on the cores beside it, not on the GPU"
DIE_QUBITS: Final = 31
"""Widest state vector in the 64 GiB of a die, at 16 bytes an amplitude: 2**31 of them leave half of it to Aer."""


class LumiArguments(NodeArguments):
    """Arguments of ``lumi_amd_gpu``. The last three are of LUMI's SLURM."""

    n_nodes: int = Field(ge=1, le=256)
    """Compute nodes: allocations that are asked for."""
    gpus_per_node: int = Field(default=8, ge=1, le=MAX_GCDS)
    """GPU dies of each; LUMI has 8."""
    max_qubits_sv: int = Field(default=34, ge=1)
    """The widest state vector of one die. The specification's 34 do not fit: a node says the 31 that do."""
    max_qubits_mps: int = Field(default=2000, ge=1)
    """The widest circuit of a node's tensor network, if its entanglement is low."""
    lumi_host: str = Field(default="lumi", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """The host's alias in ``~/.ssh/config``."""
    lumi_project: str = Field(default="", pattern=r"^(project_[0-9]+)?$")
    """The project that pays, such as ``project_465002463``."""
    partition: str = ""
    """SLURM partition; by default ``standard-g`` for whole nodes, ``small-g`` for parts of one."""
    walltime: str = Field(default="04:00:00", pattern=r"^([0-9]+-)?[0-9]{1,2}:[0-9]{2}:[0-9]{2}$")
    """How long an allocation lives."""
    container: str = ""
    """Singularity image with Aer for ROCm, as a path on LUMI; empty uses what is installed there."""


class LumiAmdGpu(VendorProvider[LumiArguments]):
    """One account on LUMI: ``n_nodes * gpus_per_node`` state-vector nodes and ``n_nodes`` tensor-network nodes."""

    DISPLAY_NAME: ClassVar[str] = "LUMI AMD MI250X"
    Arguments: ClassVar[type[BaseModel] | None] = LumiArguments
    vendor: ClassVar[ProviderKey] = ProviderKey("dask")

    @override
    def nodes(self, arguments: LumiArguments) -> list[QPUNodeSpec]:
        width = min(arguments.max_qubits_sv, DIE_QUBITS)
        narrow = f"{arguments.max_qubits_sv} qubits do not fit into the 64 GiB of a die; "
        about = {NOTE: (narrow if width < arguments.max_qubits_sv else "") + CORES_ONLY}
        dies = [
            QPUNodeSpec(
                f"lumi-n{node:02d}-gcd{die}",
                NodeType.GPU_AER,
                width,
                tags=["lumi", "rocm"],
                metadata={DEVICE: "dask_statevector", "partition": _partition(arguments)} | about,
            )
            for node in range(arguments.n_nodes)
            for die in range(arguments.gpus_per_node)
        ]
        networks = [
            QPUNodeSpec(
                f"lumi-n{node:02d}-mps",
                NodeType.GPU_TENSOR,
                arguments.max_qubits_mps,
                tags=["lumi", "rocm", "mps"],
                metadata={
                    DEVICE: "dask_mps",
                    "partition": _partition(arguments),
                    NOTE: f"{LOW_ENTANGLEMENT}; {CORES_ONLY}",
                },
            )
            for node in range(arguments.n_nodes)
        ]
        return [*dies, *networks]

    @override
    def config(self, arguments: LumiArguments) -> dict[str, Any]:
        width = min(arguments.max_qubits_sv, DIE_QUBITS)
        optional = {"account": arguments.lumi_project, "container": arguments.container}
        return {
            "profile": "lumi",
            "mode": "slurm",
            "submit_host": arguments.lumi_host,
            "partition": _partition(arguments),
            "gpus_per_node": arguments.gpus_per_node,
            "cores": DIE_CORES * arguments.gpus_per_node,
            "worker_memory_bytes": DIE_MEMORY_BYTES * arguments.gpus_per_node,
            "memory_bytes": max(statevector_bytes(width), LEAST_BYTES),
            "walltime": arguments.walltime,
            "jobs_max": arguments.n_nodes,
            **{name: value for name, value in optional.items() if value},
        }

    @classmethod
    @override
    def setting_words(cls) -> Mapping[str, str]:
        same = {name: name for name in ("partition", "gpus_per_node", "walltime", "container")}
        return same | {"account": "lumi_project", "submit_host": "lumi_host", "jobs_max": "n_nodes"}

    @classmethod
    @override
    def node_kinds(cls, arguments: Mapping[str, Any]) -> Counter[str]:
        given = cls.arguments(arguments)
        return Counter(SV=given.n_nodes * given.gpus_per_node, MPS=given.n_nodes)


def _partition(arguments: LumiArguments) -> str:
    return arguments.partition or ("standard-g" if arguments.gpus_per_node == MAX_GCDS else "small-g")
