"""What is wrong with a fleet before anything is opened: the settings of its accounts, their secrets, what they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from qcompute.cluster.account_setup import AccountSetup
from qcompute.cluster.accounts import sound_slots, words_of_nodes
from qcompute.cluster.own_code import told_as
from qcompute.cluster.registry import NodeProviderRegistry
from qcompute.cluster.settings import ClusterSettings
from qcompute.cluster.slot import Slot
from qcompute.errors import ConfigError

Listed = dict[str, Mapping[str, frozenset[str]] | None]
"""The devices of each account, with what the operator calls them; None where only the vendor knows which there are."""


@dataclass(slots=True)
class FleetFacts:
    """``problems`` end the start; with ``warnings`` it goes on, and their accounts are offline.

    ``listed`` is None where some account cannot say what it has, because it cannot be read.
    """

    problems: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])
    listed: Listed | None = None


def checked_fleet(settings: ClusterSettings, directory: Path) -> FleetFacts:
    """What there is to say of the fleet whose accounts' files lie in ``directory``, of every account.

    A table that is none of a provider's is told alone, the first of them: without it no account has its name for sure.
    Opens nothing and asks nobody over a network, so a vendor may still say no. Blocks for seconds where there is a GPU
    to be tried.
    """
    facts = FleetFacts()
    try:
        slots, faults = sound_slots(settings, directory)
    except ConfigError as error:
        facts.problems.append(error.message)
        return facts
    facts.problems += [fault.message for fault in faults]
    listed: Listed = {}
    for slot in slots:
        try:
            _check(slot, directory, facts, listed)
        except ConfigError as error:
            facts.problems.append(error.message)
    facts.listed = listed if not faults and len(listed) == len(slots) else None
    return facts


def _check(slot: Slot, directory: Path, facts: FleetFacts, listed: Listed) -> None:
    setup = AccountSetup(slot.name, directory / slot.name, slot.arguments, slot.settings)
    place = f"cluster account {slot.name!r}"
    with told_as(place):
        provider, nodes = NodeProviderRegistry.instantiate(slot.provider, **slot.arguments)
        listed[slot.name] = words_of_nodes(nodes)
        provider.check_setup(nodes, setup)
        if (reason := provider.waits_for(nodes, setup)) is not None:
            facts.warnings.append(f"{place} will be offline: {reason}")
