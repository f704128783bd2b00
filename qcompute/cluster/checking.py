"""What is wrong with a fleet before anything is opened: the settings of its accounts, their secrets, what they need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qcompute.cluster.account_setup import AccountSetup
from qcompute.cluster.accounts import connected_slots, words_of_nodes
from qcompute.cluster.own_code import told_as
from qcompute.cluster.registry import NodeProviderRegistry
from qcompute.cluster.settings import ClusterSettings
from qcompute.cluster.slot import Slot
from qcompute.errors import ConfigError

Listed = dict[str, Mapping[str, frozenset[str]] | None]
"""The devices of each account, with what the operator calls them; None where only the vendor knows which there are."""


def checked_fleet(settings: ClusterSettings, directory: Path) -> tuple[list[str], Listed]:
    """Every problem of the fleet whose accounts' files lie in ``directory``, and what it has.

    Opens nothing and asks nobody, so a vendor may still say no; a GPU is looked for at the start only.
    """
    problems: list[str] = []
    listed: Listed = {}
    try:
        slots = connected_slots(settings, directory)
    except ConfigError as error:
        return [error.message], listed
    for slot in slots:
        listed[slot.name] = None
        try:
            listed[slot.name] = _checked(slot, directory)
        except ConfigError as error:
            problems.append(error.message)
    return problems, listed


def _checked(slot: Slot, directory: Path) -> Mapping[str, frozenset[str]] | None:
    setup = AccountSetup(slot.name, directory / slot.name, slot.arguments, slot.settings)
    with told_as(f"cluster account {slot.name!r}"):
        provider, nodes = NodeProviderRegistry.instantiate(slot.provider, **slot.arguments)
        provider.check_setup(nodes, setup)
        return words_of_nodes(nodes)
