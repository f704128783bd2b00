"""This machine's own nodes: Aer on its CPUs, and on GPUs that have been seen to work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, Field
from typing_extensions import override

from qcompute.cluster.account_setup import AccountSetup
from qcompute.cluster.builtin.late import LateAdapter
from qcompute.cluster.builtin.vendor import NodeArguments, VendorProvider
from qcompute.cluster.spec import DEVICE, LOW_ENTANGLEMENT, NOTE, NodeType, QPUNodeSpec
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.miner.providers.registry import missing_of
from qcompute.units import ProviderKey
from qcompute.vendor.aer.memory import machine_bytes
from qcompute.vendor.aer.methods import LEAST_BYTES, OVERHEAD_BYTES, Method, max_qubits, statevector_bytes
from qcompute.vendor.aer.settings import AerConfig
from qcompute.vendor.aer_gpu import why_no_gpu


class LocalCpuArguments(NodeArguments):
    """Arguments of ``local_cpu``."""

    n_nodes: int = Field(default=1, ge=1, le=1024)
    """Simulations at once; each is a process."""
    max_qubits: int = Field(default=30, ge=1)
    """The widest state vector of one node; fewer where this machine's memory, shared by all nodes, does not hold it."""


class LocalCpu(VendorProvider[LocalCpuArguments]):
    """One account of the ``aer`` adapter with ``n_nodes`` processes: a node is one of them, all are one device."""

    DISPLAY_NAME: ClassVar[str] = "Local CPU (Aer)"
    Arguments: ClassVar[type[BaseModel] | None] = LocalCpuArguments
    vendor: ClassVar[ProviderKey] = ProviderKey("aer")
    account_words: ClassVar[Mapping[str, str]] = {"processes": "n_nodes", "memory_bytes": "max_qubits"}
    derived: ClassVar[frozenset[str]] = frozenset({"memory_bytes"})

    @override
    def nodes(self, arguments: LocalCpuArguments) -> list[QPUNodeSpec]:
        width = _width(arguments)
        metadata: dict[str, Any] = {DEVICE: "aer_automatic"}
        if width < arguments.max_qubits:
            metadata[NOTE] = (
                f"{arguments.max_qubits} qubits do not fit: {machine_bytes() >> 20} MiB for {arguments.n_nodes} nodes"
            )
        return [
            QPUNodeSpec(f"local-cpu-{number}", NodeType.CPU_AER, width, tags=["local", "cpu"], metadata=metadata)
            for number in range(arguments.n_nodes)
        ]

    @override
    def config(self, arguments: LocalCpuArguments) -> dict[str, Any]:
        needed = statevector_bytes(_width(arguments))
        return {"processes": arguments.n_nodes, "memory_bytes": max(needed, LEAST_BYTES)}

    @classmethod
    @override
    def node_kinds(cls, arguments: Mapping[str, Any]) -> Counter[str]:
        return Counter(CPU=cls.arguments(arguments).n_nodes)


class GpuArguments(NodeArguments):
    """Arguments of the providers of GPU nodes."""

    n_nodes: int = Field(default=1, ge=1, le=64)
    """Simulations at once."""


class GpuAerArguments(GpuArguments):
    """Arguments of ``local_gpu_aer``."""

    max_qubits: int = Field(default=32, ge=1)
    """The widest state vector of one node."""


class GpuMpsArguments(GpuArguments):
    """Arguments of ``local_gpu_mps``."""

    max_qubits: int = Field(default=4096, ge=1)
    """The widest circuit of one node, if its entanglement is low."""


class CuQuantumArguments(GpuArguments):
    """Arguments of ``local_gpu_cuquantum``."""

    max_qubits: int = Field(default=36, ge=1)
    """The widest state vector of one node."""


G = TypeVar("G", GpuAerArguments, GpuMpsArguments, CuQuantumArguments)


class _LocalGpu(VendorProvider[G]):
    """GPU nodes: one account, one device, ``n_nodes`` processes. Offline unless a child has run ``engine`` on the GPU.

    ``engine`` is Aer's method. How much memory the GPU has, ``settings.gpu_memory_bytes`` says.
    """

    vendor: ClassVar[ProviderKey] = ProviderKey("aer")
    account_words: ClassVar[Mapping[str, str]] = {"processes": "n_nodes"}
    node_type: ClassVar[NodeType]
    engine: ClassVar[str]
    kind: ClassVar[str]
    device: ClassVar[str]

    @override
    def nodes(self, arguments: G) -> list[QPUNodeSpec]:
        metadata: dict[str, Any] = {DEVICE: self.device, "engine": self.engine}
        if self.node_type is NodeType.GPU_TENSOR:
            metadata[NOTE] = LOW_ENTANGLEMENT
        return [
            QPUNodeSpec(
                f"local-{self.kind.lower().replace(' ', '-')}-{number}",
                self.node_type,
                arguments.max_qubits,
                tags=["local", "gpu"],
                metadata=metadata,
            )
            for number in range(arguments.n_nodes)
        ]

    @override
    def config(self, arguments: G) -> dict[str, Any]:
        return {"processes": arguments.n_nodes, "device": "GPU", "methods": [self.engine]}

    @override
    def open_adapter(self, nodes: Sequence[QPUNodeSpec], setup: AccountSetup) -> ProviderAdapter:
        """Raises for a wrong setting, and never for what may come: a GPU that is not there, or Aer itself.

        The account then has no device, until a health check finds that it can be opened.
        """
        self.check_settings(setup)
        at_once = self.arguments(setup.arguments).n_nodes
        self._adapter = LateAdapter(partial(super().open_adapter, nodes, setup), at_once=at_once)
        return self._adapter

    @override
    def check_setup(self, nodes: Sequence[QPUNodeSpec], setup: AccountSetup) -> None:
        self.check_settings(setup)

    @override
    def waits_for(self, nodes: Sequence[QPUNodeSpec], setup: AccountSetup) -> str | None:
        return missing_of(self.vendor) or why_no_gpu(AerConfig.model_validate(self.table(setup)))

    @override
    def check_health(self, adapter: ProviderAdapter) -> None:
        if isinstance(adapter, LateAdapter):
            adapter.open_now()
        super().check_health(adapter)

    @classmethod
    @override
    def node_kinds(cls, arguments: Mapping[str, Any]) -> Counter[str]:
        return Counter({cls.kind: cls.arguments(arguments).n_nodes})


class LocalGpuAer(_LocalGpu[GpuAerArguments]):
    """State vectors on a CUDA GPU, by Aer."""

    DISPLAY_NAME: ClassVar[str] = "Local GPU (Aer state vector)"
    Arguments: ClassVar[type[BaseModel] | None] = GpuAerArguments
    node_type: ClassVar[NodeType] = NodeType.GPU_AER
    engine: ClassVar[str] = "statevector"
    kind: ClassVar[str] = "GPU SV"
    device: ClassVar[str] = "aer_gpu_statevector"


class LocalGpuMps(_LocalGpu[GpuMpsArguments]):
    """Tensor networks on a GPU, by Aer, whose own method of MPS has no GPU: wide circuits of low entanglement."""

    DISPLAY_NAME: ClassVar[str] = "Local GPU (Aer tensor network)"
    Arguments: ClassVar[type[BaseModel] | None] = GpuMpsArguments
    node_type: ClassVar[NodeType] = NodeType.GPU_TENSOR
    engine: ClassVar[str] = "tensor_network"
    kind: ClassVar[str] = "GPU MPS"
    device: ClassVar[str] = "aer_gpu_tensor_network"


class LocalGpuCuQuantum(_LocalGpu[CuQuantumArguments]):
    """State vectors on a CUDA GPU, by Aer with NVIDIA's cuStateVec."""

    DISPLAY_NAME: ClassVar[str] = "Local GPU (cuQuantum)"
    Arguments: ClassVar[type[BaseModel] | None] = CuQuantumArguments
    node_type: ClassVar[NodeType] = NodeType.GPU_AER
    engine: ClassVar[str] = "statevector"
    kind: ClassVar[str] = "GPU cuQuantum"
    device: ClassVar[str] = "aer_gpu_custatevec"

    @override
    def config(self, arguments: CuQuantumArguments) -> dict[str, Any]:
        return super().config(arguments) | {"custatevec": True}


def _width(arguments: LocalCpuArguments) -> int:
    """Qubits of the widest state vector that every node can hold at the same time."""
    share = machine_bytes() // arguments.n_nodes - OVERHEAD_BYTES
    return min(arguments.max_qubits, max_qubits(Method.STATEVECTOR, share))
