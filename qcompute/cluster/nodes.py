"""`QPURegistry`: the nodes of a built cluster, which of them can be used, and who runs their circuits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

from qcompute.cluster.health import check_account, looked_up, reason_of
from qcompute.cluster.provider import NodeProvider
from qcompute.cluster.spec import NodeType, QPUNodeSpec
from qcompute.errors import ConfigError, Refused, SandboxUnavailable, VendorError
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.units import Counts


@dataclass(slots=True)
class RegisteredAccount:
    """One account of a registry; without an adapter it could not be opened, and ``problem`` says why."""

    name: str
    provider: NodeProvider
    built: list[QPUNodeSpec]
    open: Callable[[], ProviderAdapter]
    adapter: ProviderAdapter | None = None
    problem: str | None = None
    nodes: list[QPUNodeSpec] = field(default_factory=list[QPUNodeSpec])

    def look(self) -> None:
        """Ask how the account and its nodes are now. What cannot be opened is tried again."""
        try:
            self.adapter = self.adapter or self.open()
            check_account(self.provider, self.adapter)
            self.nodes = looked_up(self.provider, self.built, self.adapter)
            self.problem = None
        except (ConfigError, VendorError, SandboxUnavailable) as error:
            self.problem = reason_of(error)
            self.nodes = [node.taken_offline(self.problem) if node.online else node for node in self.built]


class QPURegistry:
    """Nodes by id. Made by `ClusterBuilder.build`; a program may register further ones. Close it when done.

    Ids are unique here: where two accounts call a node alike, the later account's is ``<account>/<id>``.
    """

    def __init__(self, folder: tempfile.TemporaryDirectory[str] | None = None) -> None:
        self._folder = folder
        self._accounts: list[RegisteredAccount] = []
        self._nodes: dict[str, QPUNodeSpec] = {}
        self._owner: dict[str, RegisteredAccount | NodeProvider] = {}
        self._singles: dict[str, tuple[QPUNodeSpec, NodeProvider]] = {}

    def register(self, spec: QPUNodeSpec, provider: NodeProvider) -> None:
        """Add one node that ``provider`` runs circuits on.

        Raises:
            ValueError: there is a node of this id.
        """
        if spec.node_id in self._nodes:
            raise ValueError(f"there is a node {spec.node_id!r} already")
        self._singles[spec.node_id] = (spec, provider)
        self._index()

    def add_account(self, account: RegisteredAccount) -> None:
        """Add an account with its nodes, as they are known now."""
        self._accounts.append(account)
        self._index()

    def refresh(self) -> None:
        """Ask every account how it is now: nodes go offline with the reason, and come back by themselves."""
        for account in self._accounts:
            account.look()
        self._index()

    @property
    def nodes(self) -> list[QPUNodeSpec]:
        """All nodes, in the order of their accounts."""
        return list(self._nodes.values())

    @property
    def online_nodes(self) -> list[QPUNodeSpec]:
        """Those that can be used."""
        return [node for node in self._nodes.values() if node.online]

    @property
    def problems(self) -> dict[str, str]:
        """Why an account cannot be used, by its name."""
        return {account.name: account.problem for account in self._accounts if account.problem is not None}

    def get(self, node_id: str) -> QPUNodeSpec:
        """The node of this id.

        Raises:
            KeyError: there is none; some that there are are named.
        """
        try:
            return self._nodes[node_id]
        except KeyError:
            raise KeyError(f"no node {node_id!r}; there are {', '.join(list(self._nodes)[:8])}") from None

    def find(
        self,
        *,
        tag: str | None = None,
        node_type: NodeType | None = None,
        min_qubits: int = 0,
        online: bool | None = True,
    ) -> list[QPUNodeSpec]:
        """Nodes that have the tag, are of the type and at least so wide; the online ones, unless told otherwise."""
        return [
            node
            for node in self._nodes.values()
            if (tag is None or tag in node.tags)
            and (node_type is None or node.node_type is node_type)
            and node.max_qubits >= min_qubits
            and (online is None or node.online is online)
        ]

    def execute(self, node_id: str, circuit: Any, shots: int) -> Counts:  # noqa: ANN401 - a QuantumCircuit
        """Counts of ``shots`` runs of ``circuit`` on this node and no other; blocks.

        Raises:
            KeyError: there is no such node.
            VendorError: it is offline, or did not complete the job; the reason is named.
        """
        node = self.get(node_id)
        if not node.online:
            raise Refused(f"node {node_id} is offline: {node.offline_reason}")
        owner = self._owner[node_id]
        provider = owner.provider if isinstance(owner, RegisteredAccount) else owner
        counts = provider.execute(circuit, shots, replace(node, node_id=node_id.removeprefix(_prefix(owner))))
        if counts is None:
            raise VendorError(f"{provider.display_name()} gave no counts for node {node_id}; nothing runs in its place")
        return counts

    def status_report(self) -> dict[str, Any]:
        """What there is and how it is, ready for JSON; secrets are not in it, nor their names."""
        return {
            "nodes": len(self._nodes),
            "online": len(self.online_nodes),
            "accounts": {account.name: account.problem or "ok" for account in self._accounts},
            "by_node": {node_id: _described(node) for node_id, node in self._nodes.items()},
        }

    def close(self) -> None:
        """End what runs circuits; safe to call twice."""
        for account in self._accounts:
            if account.adapter is not None:
                account.adapter.close()
                account.adapter = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[QPUNodeSpec]:
        return iter(self.nodes)

    def _index(self) -> None:
        self._nodes, self._owner = {}, {}
        for account in self._accounts:
            for node in account.nodes:
                taken = node.node_id in self._nodes
                self._put(replace(node, node_id=_prefix(account) + node.node_id) if taken else node, account)
        for spec, provider in self._singles.values():
            self._put(spec, provider)

    def _put(self, node: QPUNodeSpec, owner: RegisteredAccount | NodeProvider) -> None:
        self._nodes[node.node_id] = node
        self._owner[node.node_id] = owner


def _prefix(owner: RegisteredAccount | NodeProvider) -> str:
    return f"{owner.name}/" if isinstance(owner, RegisteredAccount) else ""


def _described(node: QPUNodeSpec) -> dict[str, Any]:
    return {
        "type": node.node_type.value,
        "device_type": node.device_type,
        "max_qubits": node.max_qubits,
        "tags": list(node.tags),
        "online": node.online,
        "metadata": dict(node.metadata),
    }
