"""What the daemon makes of a fleet: one account for each slot, with an adapter, a budget and a health check each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from pathlib import Path
from typing import Any, Final, cast

from qcompute.cluster.account_setup import AccountSetup
from qcompute.cluster.builder import ClusterBuilder
from qcompute.cluster.builtin.vendor import VendorProvider, is_width_said
from qcompute.cluster.connected import connected
from qcompute.cluster.health import check_account, fitted
from qcompute.cluster.nodes import QPURegistry
from qcompute.cluster.own_code import told_as
from qcompute.cluster.provider import NodeProvider
from qcompute.cluster.registry import NodeProviderRegistry
from qcompute.cluster.settings import ClusterSettings
from qcompute.cluster.slot import Slot
from qcompute.cluster.spec import QPUNodeSpec
from qcompute.connections.definitions import FILE, Definitions
from qcompute.errors import ConfigError
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.units import ProviderKey

_ON_THIS_MACHINE: Final = frozenset({"aer", "rest"})
"""Vendors whose adapters describe their devices without asking anybody."""


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """One account of the fleet, opened but not yet asked for anything.

    ``name`` is unique in the fleet and stays the same over restarts; ``vendor`` is the key of its adapter, or of the
    node provider where that runs circuits itself. The adapter is this account's alone, and with it rate limits,
    idempotency and files.

    ``nodes`` are the places circuits run. A node's ``device_id`` is the adapter's device that stands for it: for
    clouds, endpoints and own providers each node is a device; of ``local_cpu`` and the GPU providers all nodes are one
    device, because they are alike, and each is one process of the adapter. Only devices some node names are used; no
    nodes at all means every device the adapter lists, which the vendor alone knows.

    ``health_check`` returns when the account can be used. It may block and ask the vendor.
    """

    name: ProviderKey
    vendor: ProviderKey
    adapter: ProviderAdapter
    budget: BudgetSettings
    nodes: tuple[QPUNodeSpec, ...]
    health_check: Callable[[], None]
    """Raises `VendorError` or `ConfigError` with the reason when it cannot."""
    widths: Mapping[str, int] = field(default_factory=dict[str, int])
    """The most qubits the operator lets a device have, where that was said and the adapter is not told."""


def open_cluster(settings: ClusterSettings, directory: Path) -> list[AccountPlan]:
    """The accounts of the fleet, in its order. Asks nobody over a network; call it on the main thread.

    An account keeps its files in ``directory`` in a folder of its name.

    Raises:
        ConfigError: there is no fleet, a slot cannot work as it is written, or an adapter cannot be opened; the text
            names the account and the fix. The accounts opened so far are closed.
    """
    plans: list[AccountPlan] = []
    try:
        plans.extend(_opened(slot, directory) for slot in connected_slots(settings, directory))
    except BaseException:
        for plan in plans:
            plan.adapter.close()
        raise
    return plans


def open_account(settings: ClusterSettings, directory: Path, name: str) -> AccountPlan | None:
    """One account of the fleet, opened anew; None when it has none of this name. See `open_cluster`."""
    found = [slot for slot in connected_slots(settings, directory) if slot.name == name]
    return _opened(found[0], directory) if found else None


def connected_slots(settings: ClusterSettings, directory: Path) -> tuple[Slot, ...]:
    """The fleet with what its connections give, which are those of the miner whose folder ``directory`` is.

    Raises:
        ConfigError: see `slots_of`; also when a connection cannot give an account.
    """
    slots, faults = sound_slots(settings, directory)
    if faults:
        raise faults[0]
    return slots


def sound_slots(settings: ClusterSettings, directory: Path) -> tuple[tuple[Slot, ...], list[ConfigError]]:
    """`connected_slots` without those that no connection can give, and why not: every reason, in the fleet's order.

    Raises:
        ConfigError: see `slots_of`.
    """
    definitions = Definitions(directory / FILE)
    slots = slots_of(settings)
    if settings.builder is None:
        wheres = [f"cluster.nodes[{number}].connection" for number in range(len(slots))]
    else:
        wheres = [f"cluster account {slot.name!r}: connection" for slot in slots]
    faults: list[ConfigError] = []
    whole: list[tuple[Slot, Slot, str]] = []
    for slot, where in zip(slots, wheres, strict=True):
        try:
            whole.append((slot, connected(slot, definitions, where), where))
        except ConfigError as error:
            faults.append(error)
    sound = tuple(one for _, one, _ in whole)
    return sound, [*faults, *_shared_budgets(whole), *_shared_spools(sound)]


def words_of_nodes(nodes: Sequence[QPUNodeSpec]) -> dict[str, frozenset[str]] | None:
    """What the operator calls each device: its nodes' names and tags; None when the vendor says which devices are."""
    words: dict[str, frozenset[str]] = {}
    for node in nodes:
        words[node.device_id] = words.get(node.device_id, frozenset()) | {node.node_id, *node.tags}
    return words or None


def _shared_spools(whole: Sequence[Slot]) -> Iterator[ConfigError]:
    """Jobs of one account would be found and run by the other as well."""
    has_it: dict[Path, str] = {}
    for slot in whole:
        if isinstance(spool := slot.settings.get("spool"), str):
            folder = Path(spool).expanduser().resolve()
            if (first := has_it.setdefault(folder, slot.name)) != slot.name:
                yield ConfigError(
                    f"cluster account {slot.name!r}: settings.spool is that of {first} already, and each would run the "
                    "other's jobs: take it out, then each has a folder of its own"
                )


def _shared_budgets(whole: Sequence[tuple[Slot, Slot, str]]) -> Iterator[ConfigError]:
    """Two accounts with a connection's budget each could spend twice what was allowed.

    Each is given as it is written, with what its connection gives, and as errors call the setting.
    """
    has_it: dict[str, str] = {}
    for slot, one, where in whole:
        if slot.connection is None or one.budget == slot.budget:
            continue
        if (first := has_it.setdefault(slot.connection, slot.name)) != slot.name:
            yield ConfigError(
                f"{where}: the budget of {slot.connection} is that of {first} already: write a budget here"
            )


def slots_of(settings: ClusterSettings) -> tuple[Slot, ...]:
    """The fleet as it is written, whichever way that is; nothing is opened, and no connection is read.

    Raises:
        ConfigError: it cannot be read, or is empty; the setting is named.
    """
    builder = _from_tables(settings) if settings.builder is None else _from_path(settings.builder)
    if not builder.slots:
        raise ConfigError("PROVIDER=cluster needs a fleet: write [[cluster.nodes]] tables, or set cluster.builder")
    return builder.slots


def _from_tables(settings: ClusterSettings) -> ClusterBuilder:
    builder = ClusterBuilder()
    for number, node in enumerate(settings.nodes):
        try:
            builder.add_with(
                *(node.provider, node.arguments),
                name=node.name,
                settings=node.settings,
                budget=node.budget,
                connection=node.connection,
            )
        except (KeyError, ValueError) as error:
            raise ConfigError(f"cluster.nodes[{number}]: {error.args[0]}") from None
    return builder


def _from_path(path: str) -> ClusterBuilder:
    module, _, name = path.partition(":")
    with told_as(f"cluster.builder: {module} cannot be imported"):
        root = cast("Any", importlib.import_module(module))
    try:
        found: Any = reduce(getattr, name.split("."), root)
    except AttributeError as error:
        raise ConfigError(f"cluster.builder: {path}: {error}") from None
    with told_as(f"cluster.builder: {path}"):
        made = found() if callable(found) else found
    if isinstance(made, QPURegistry):
        made.close()
        raise ConfigError(f"cluster.builder: {path} builds the cluster itself: return the ClusterBuilder, not built")
    if not isinstance(made, ClusterBuilder):
        raise ConfigError(f"cluster.builder: {path} must be a ClusterBuilder or a function that returns one")
    return made


def _opened(slot: Slot, directory: Path) -> AccountPlan:
    setup = AccountSetup(slot.name, directory / slot.name, slot.arguments, slot.settings)
    with told_as(f"cluster account {slot.name!r}"):
        provider, nodes = NodeProviderRegistry.instantiate(slot.provider, **slot.arguments)
        adapter = provider.open_adapter(nodes, setup)
    known = tuple(_known(provider, nodes, adapter))
    return AccountPlan(
        name=slot.name,
        vendor=vendor_of(slot),
        adapter=adapter,
        budget=slot.budget,
        nodes=known,
        health_check=partial(check_account, provider, adapter),
        widths=_widths(slot, known),
    )


def _widths(slot: Slot, nodes: Sequence[QPUNodeSpec]) -> dict[str, int]:
    if not is_width_said(slot.arguments):
        return {}
    widths: dict[str, int] = {}
    for node in nodes:
        widths[node.device_id] = max(node.max_qubits, widths.get(node.device_id, 0))
    return {device: width for device, width in widths.items() if width}


def vendor_of(slot: Slot) -> ProviderKey:
    """The key of the adapter that runs an account's jobs, or of the node provider where that runs them itself."""
    provider = NodeProviderRegistry.get(slot.provider)
    return provider.vendor if issubclass(provider, VendorProvider) else ProviderKey(slot.provider)


def _known(provider: NodeProvider, nodes: Sequence[QPUNodeSpec], adapter: ProviderAdapter) -> Sequence[QPUNodeSpec]:
    here = isinstance(provider, VendorProvider) and provider.vendor in _ON_THIS_MACHINE
    return fitted(nodes, adapter) if here else nodes
