"""Many devices and machines behind one miner: nodes, the providers that make them, and fleets built of both.

The public names and arguments are those of softQCOS' Provider API; what differs is said where it does, and always for
one reason: a result must come from the node that is named.
"""

from __future__ import annotations

from qcompute.cluster.account_setup import AccountSetup
from qcompute.cluster.accounts import AccountPlan, open_cluster
from qcompute.cluster.builder import ClusterBuilder
from qcompute.cluster.factories import (
    make_azure_cheap_cluster,
    make_hybrid_cluster,
    make_local_cluster,
    make_lumi_cluster,
)
from qcompute.cluster.nodes import QPURegistry
from qcompute.cluster.provider import NodeProvider
from qcompute.cluster.registry import NodeProviderRegistry
from qcompute.cluster.settings import ClusterSettings
from qcompute.cluster.spec import NodeType, QPUNodeSpec

__all__ = [
    "AccountPlan",
    "AccountSetup",
    "ClusterBuilder",
    "ClusterSettings",
    "NodeProvider",
    "NodeProviderRegistry",
    "NodeType",
    "QPUNodeSpec",
    "QPURegistry",
    "make_azure_cheap_cluster",
    "make_hybrid_cluster",
    "make_local_cluster",
    "make_lumi_cluster",
    "open_cluster",
]
