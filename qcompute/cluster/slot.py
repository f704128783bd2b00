"""One provider of a fleet as the operator wrote it, in Python or in TOML: the same data, before anything is opened."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePath
from typing import Any, Final, cast

from qcompute.cluster.builtin.vendor import VendorProvider
from qcompute.cluster.provider import NodeProvider
from qcompute.cluster.registry import NodeProviderRegistry
from qcompute.cluster.spec import refuse_secrets
from qcompute.connections.credentials import secrets_in
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.providers.registry import config_of
from qcompute.units import ProviderKey

NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
"""What an account may be called: it is a folder, and a word in the ledger."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One account to be: ``provider`` is its key, ``arguments`` what its nodes are built with.

    ``settings`` is its adapter's own table, ``budget`` what may be spent with it. Two slots of one provider are two
    accounts: nothing is shared between them.
    """

    provider: str
    name: ProviderKey
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    connection: str | None = None
    """The connection that gives the account and its credentials; see `qcompute.cluster.connected`."""

    def kinds(self) -> Counter[str] | None:
        """How many nodes of which kind there would be; None when only the provider, vendor or connection can say."""
        if self.connection is not None:
            return None
        return NodeProviderRegistry.get(self.provider).node_kinds(self.arguments)


def slot_of(
    provider: str,
    arguments: Mapping[str, Any],
    *,
    taken: frozenset[str],
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    budget: BudgetSettings | None = None,
    connection: str | None = None,
) -> Slot:
    """A slot, checked as far as can be without making anything.

    ``name`` is by default the connection's, else the provider's key, with a number from the second on; ``taken`` are
    the names in use.

    Raises:
        KeyError: there is no such provider.
        ValueError: the name is taken or cannot be one, an argument is wrong, a secret stands where its name belongs, or
            credentials are given beside the connection that gives them.
    """
    cls = NodeProviderRegistry.get(provider)
    plain, table = _plain_table(arguments), _plain_table(settings or {})
    refuse_secrets(plain, where=f"{provider}: ")
    refuse_secrets(table, where=f"{provider}: settings.")
    if connection is not None:
        _check_connected(provider, cls, connection, plain, table)
    elif issubclass(cls, VendorProvider):
        cast("type[VendorProvider[Any]]", cls).arguments(plain)
    else:
        _check_signature(provider, cls.build_nodes, plain)
    if name is None:
        name = _free_name(connection or provider, taken)
    if not NAME.fullmatch(name):
        raise ValueError(f"an account is named with small letters, digits, _ and -, not {name!r}")
    if name in taken:
        raise ValueError(f"two accounts of the cluster are named {name!r}")
    return Slot(provider, ProviderKey(name), plain, table, budget or BudgetSettings(), connection)


def _check_connected(
    provider: str, cls: type[NodeProvider], connection: str, arguments: Mapping[str, Any], table: Mapping[str, Any]
) -> None:
    """A credential beside the connection that gives them is told by its place."""
    if not issubclass(cls, VendorProvider):
        raise ValueError(f"connection: {provider} runs circuits itself: no connection gives its account")  # noqa: TRY004 - of what was written
    vendors = cast("type[VendorProvider[Any]]", cls)
    model = config_of(vendors.vendor)
    given = {word for word in vendors.credential_words().values() if arguments.get(word) not in (None, "")}
    if model is not None:
        named = secrets_in(model, table)
        given |= {f"settings.{place}" for place in named if place.partition(".")[0] in table}
    if given:
        raise ValueError(f"{min(given)}: connection = {connection!r} gives the credentials; take one of the two out")


def _free_name(provider: str, taken: frozenset[str]) -> str:
    base = re.sub(r"[^a-z0-9_-]", "_", provider.rpartition(":")[2].rpartition(".")[2].lower())[:60]
    number = 1
    while (name := base if number == 1 else f"{base}_{number}") in taken:
        number += 1
    return name


def _check_signature(provider: str, build_nodes: Any, arguments: Mapping[str, Any]) -> None:  # noqa: ANN401 - any callable
    """A wrong argument is told where it is written, and not when the cluster is built."""
    try:
        inspect.signature(build_nodes).bind(None, **arguments)
    except TypeError as error:
        raise ValueError(f"{provider}: {error}") from None


def _plain_table(given: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): _plain(value) for key, value in given.items() if value is not None}


def _plain(value: object) -> Any:  # noqa: ANN401 - as TOML would have it
    """``value`` as it would be in a TOML file, so that the same fleet is the same wherever it was written."""
    match value:
        case Mapping():
            return _plain_table(cast("Mapping[str, Any]", value))
        case list() | tuple():
            return [_plain(item) for item in cast("list[object]", value)]
        case Enum():
            return value.value
        case PurePath():
            return str(value)
        case _:
            return value
