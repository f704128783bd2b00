"""Many devices and machines behind one miner: nodes, the providers that make them, and fleets built of both.

The public names and arguments are those of softQCOS' Provider API; what differs is said where it does, and always for
one reason: a result must come from the node that is named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from qcompute.cluster.account_setup import AccountSetup
    from qcompute.cluster.accounts import AccountPlan, open_account, open_cluster, slots_of
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
    "open_account",
    "open_cluster",
    "slots_of",
]

_HOMES: Final = {
    "AccountPlan": "accounts",
    "AccountSetup": "account_setup",
    "ClusterBuilder": "builder",
    "ClusterSettings": "settings",
    "NodeProvider": "provider",
    "NodeProviderRegistry": "registry",
    "NodeType": "spec",
    "QPUNodeSpec": "spec",
    "QPURegistry": "nodes",
    "make_azure_cheap_cluster": "factories",
    "make_hybrid_cluster": "factories",
    "make_local_cluster": "factories",
    "make_lumi_cluster": "factories",
    "open_account": "accounts",
    "open_cluster": "accounts",
    "slots_of": "accounts",
}
"""The module of each name. They are imported when they are asked for: every daemon and every command imports this
package for its settings, and few have a cluster."""


def __getattr__(name: str) -> Any:  # noqa: ANN401 - classes and functions
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
