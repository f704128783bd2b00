"""`ClusterBuilder`: a fleet written down in Python, a plan until it is built."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from qcompute.cluster.account_setup import AccountSetup
from qcompute.cluster.connected import connected
from qcompute.cluster.nodes import QPURegistry, RegisteredAccount
from qcompute.cluster.registry import NodeProviderRegistry
from qcompute.cluster.slot import Slot, slot_of
from qcompute.connections.definitions import FILE, Definitions
from qcompute.errors import Unavailable
from qcompute.miner.limits import BudgetSettings

_MPS: Final = "MPS"
MAX_REASONS: Final = 8
"""So many nodes or accounts an error tells of."""


class ClusterBuilder:
    """Add providers, look at the plan, build it. `add` and `describe` make nothing and ask nobody."""

    def __init__(self) -> None:
        self._slots: list[Slot] = []

    @property
    def slots(self) -> tuple[Slot, ...]:
        """What has been added: the same as the same fleet in TOML."""
        return tuple(self._slots)

    def add(
        self,
        provider_name: str,
        *,
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        budget: BudgetSettings | None = None,
        connection: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - each provider's own
    ) -> Self:
        """Add an account with its nodes; returns itself.

        ``kwargs`` are the provider's. ``name`` is the account's, by default the provider's key and, from the second
        of them on, a number; ``settings`` its adapter's own; ``budget`` what may be spent with it. ``connection`` is
        the name of one that gives the account; it is looked for in the folder that the fleet is opened in.

        Raises:
            KeyError: there is no such provider; the known ones are named.
            ValueError: an argument is wrong or unknown, the name is taken, or a secret stands where its name belongs.
        """
        return self.add_with(provider_name, kwargs, name=name, settings=settings, budget=budget, connection=connection)

    def add_with(
        self,
        provider_name: str,
        arguments: Mapping[str, Any],
        *,
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
        budget: BudgetSettings | None = None,
        connection: str | None = None,
    ) -> Self:
        """`add` with the provider's arguments as a table, which may have any keys."""
        taken = frozenset(str(slot.name) for slot in self._slots)
        slot = slot_of(
            *(provider_name, arguments), taken=taken, name=name, settings=settings, budget=budget, connection=connection
        )
        self._slots.append(slot)
        return self

    def describe(self) -> str:
        """The plan, for people. Secrets appear by name."""
        lines = ["Cluster Plan:", *(_line(number, slot) for number, slot in enumerate(self._slots))]
        kinds = [slot.kinds() for slot in self._slots]
        known = sum((kind for kind in kinds if kind is not None), Counter[str]())
        unknown = [str(slot.name) for slot, kind in zip(self._slots, kinds, strict=True) if kind is None]
        parts = " + ".join(f"{number} {kind}" for kind, number in known.items())
        lines.append(f"Estimated nodes: {known.total()}" + (f" ({parts})" if parts else ""))
        if unknown:
            lines.append(f"and what there is when it is built: {', '.join(unknown)}")
        if any(_MPS in kind for kind in known):
            lines.append("The width of MPS nodes holds for circuits of low entanglement only.")
        return "\n".join(lines)

    def build(self, directory: Path | None = None) -> QPURegistry:
        """Make every account and its nodes, and ask whether they are well. Call it on the main thread.

        Nodes of an account that is not are offline, the reason in ``metadata["offline_reason"]``. ``directory`` is
        where accounts keep their files, by default a folder that ends with the registry.

        Raises:
            ValueError: nothing was added, or a provider refuses its arguments.
            Unavailable: no node at all can be used; the reasons are named, and nothing takes their place.
        """
        if not self._slots:
            raise ValueError("this cluster has no node: add a provider first")
        folder = tempfile.TemporaryDirectory(prefix="qcompute-cluster-") if directory is None else None
        registry = QPURegistry(folder)
        root = directory or Path(folder.name if folder else "")
        try:
            for slot in self._slots:
                account = account_of(slot, root)
                account.look()
                registry.add_account(account)
            _require_one(registry)
        except BaseException:
            registry.close()
            raise
        return registry


def account_of(slot: Slot, root: Path) -> RegisteredAccount:
    """The account of ``slot``, its nodes built and nothing opened.

    Raises:
        ConfigError: its connection cannot give it.
        ValueError: the provider refuses its arguments.
    """
    slot = connected(slot, Definitions(root / FILE), f"cluster account {slot.name!r}: connection")
    provider, nodes = NodeProviderRegistry.instantiate(slot.provider, **slot.arguments)
    setup = AccountSetup(slot.name, root / slot.name, slot.arguments, slot.settings)
    return RegisteredAccount(slot.name, provider, nodes, partial(provider.open_adapter, nodes, setup))


def _line(number: int, slot: Slot) -> str:
    given = {} if slot.connection is None else {"connection": slot.connection}
    said = ", ".join(f"{key}={value!r}" for key, value in (given | slot.arguments).items())
    called = "" if slot.name == slot.provider else f" ({slot.name})"
    return f"[{number}] {slot.provider}{called}" + (f" — {said}" if said else "")


def _require_one(registry: QPURegistry) -> None:
    if registry.online_nodes:
        return
    reasons = registry.problems or {node.node_id: node.offline_reason or "" for node in registry.nodes}
    told = "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:MAX_REASONS])
    raise Unavailable(f"no node of this cluster can be used: {told}")
