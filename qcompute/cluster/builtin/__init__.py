"""The specification's nine providers, by their keys."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from qcompute.cluster.builtin.clouds import AwsBraket, AzureQuantum, IbmQuantum
from qcompute.cluster.builtin.local import LocalCpu, LocalGpuAer, LocalGpuCuQuantum, LocalGpuMps
from qcompute.cluster.builtin.lumi import LumiAmdGpu
from qcompute.cluster.builtin.rest import CustomRest
from qcompute.cluster.provider import NodeProvider

BUILT_IN: Final[Mapping[str, type[NodeProvider]]] = MappingProxyType(
    {
        "local_cpu": LocalCpu,
        "local_gpu_aer": LocalGpuAer,
        "local_gpu_mps": LocalGpuMps,
        "local_gpu_cuquantum": LocalGpuCuQuantum,
        "lumi_amd_gpu": LumiAmdGpu,
        "azure_quantum": AzureQuantum,
        "ibm_quantum": IbmQuantum,
        "aws_braket": AwsBraket,
        "custom_rest": CustomRest,
    }
)
