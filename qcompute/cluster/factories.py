"""Common clusters in one call, with the specification's names and arguments. Each is built: close what it returns.

For the daemon, write the same with a `ClusterBuilder` and name that in ``cluster.builder``.
"""

from __future__ import annotations

from qcompute.cluster.builder import ClusterBuilder
from qcompute.cluster.nodes import QPURegistry

CHEAP_TARGETS = ("rigetti.qpu.ankaa-3", "quantinuum.qpu.h2-1", "microsoft.estimator")
FALLBACK_CPU_NODES = 4
FALLBACK_MPS_QUBITS = 2000


def make_local_cluster(n_cpu_nodes: int = 4, n_gpu_sv_nodes: int = 0, n_gpu_mps_nodes: int = 0) -> QPURegistry:
    """Simulators of this machine.

    Raises:
        ValueError: no node at all.
        Unavailable: none can be used; the reasons are named.
    """
    builder = ClusterBuilder()
    for provider, number in (
        ("local_cpu", n_cpu_nodes),
        ("local_gpu_aer", n_gpu_sv_nodes),
        ("local_gpu_mps", n_gpu_mps_nodes),
    ):
        if number:
            builder.add(provider, n_nodes=number)
    return builder.build()


def make_lumi_cluster(
    n_nodes: int,
    gpus_per_node: int = 8,
    lumi_host: str = "lumi",
    lumi_project: str = "",
    include_local_fallback: bool = True,  # noqa: FBT001, FBT002 - the specification's fifth argument
) -> QPURegistry:
    """LUMI's GPU nodes; with the local fallback, four CPU nodes of this machine beside them.

    They are nodes like all others: whoever routes decides, and a circuit for LUMI never moves to them by itself.

    Raises:
        ValueError: an argument is wrong.
        Unavailable: none can be used; the reasons are named.
    """
    builder = ClusterBuilder().add(
        "lumi_amd_gpu", n_nodes=n_nodes, gpus_per_node=gpus_per_node, lumi_host=lumi_host, lumi_project=lumi_project
    )
    if include_local_fallback:
        builder.add("local_cpu", n_nodes=FALLBACK_CPU_NODES)
    return builder.build()


def make_azure_cheap_cluster(
    azure_resource_id: str,
    subscription_id: str,
    include_local_mps: bool = True,  # noqa: FBT001, FBT002 - the specification's third argument
) -> QPURegistry:
    """Rigetti Ankaa-3, Quantinuum H2-1, Microsoft's estimator, which runs no circuits, and an MPS node of this machine.

    Raises:
        ValueError: an argument is wrong.
        Unavailable: none can be used; the reasons are named.
    """
    builder = ClusterBuilder().add(
        "azure_quantum",
        azure_resource_id=azure_resource_id,
        subscription_id=subscription_id,
        targets=CHEAP_TARGETS,
    )
    if include_local_mps:
        builder.add("local_gpu_mps", n_nodes=1, max_qubits=FALLBACK_MPS_QUBITS)
    return builder.build()


def make_hybrid_cluster(
    lumi_nodes: int = 2,
    azure_resource_id: str = "",
    subscription_id: str = "",
    ibm_token: str = "",
    include_local: bool = True,  # noqa: FBT001, FBT002 - the specification's fifth argument
    *,
    ibm_instance: str = "",
) -> QPURegistry:
    """LUMI, Azure and IBM, whichever is named, and CPU and MPS nodes of this machine.

    ``ibm_token`` is the name of the secret that holds the key; ``ibm_instance`` the instance's CRN, without which
    IBM's nodes are offline.

    Raises:
        ValueError: an argument is wrong, or nothing is named.
        Unavailable: none can be used; the reasons are named.
    """
    builder = ClusterBuilder()
    if lumi_nodes:
        builder.add("lumi_amd_gpu", n_nodes=lumi_nodes)
    if azure_resource_id:
        builder.add("azure_quantum", azure_resource_id=azure_resource_id, subscription_id=subscription_id)
    if ibm_token:
        builder.add("ibm_quantum", ibm_token=ibm_token, instance=ibm_instance or None)
    if include_local:
        builder.add("local_cpu", n_nodes=FALLBACK_CPU_NODES)
        builder.add("local_gpu_mps", n_nodes=1, max_qubits=FALLBACK_MPS_QUBITS)
    return builder.build()
