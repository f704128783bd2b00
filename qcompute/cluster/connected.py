"""Accounts of a fleet that a connection gives: its settings and credentials, with what the node says beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from qcompute.cluster.builtin.vendor import VendorProvider
from qcompute.cluster.own_code import told_as
from qcompute.cluster.registry import NodeProviderRegistry
from qcompute.cluster.slot import Slot
from qcompute.connections.credentials import secrets_in
from qcompute.connections.definitions import Definitions
from qcompute.errors import ConfigError
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.providers.registry import config_of


def connected(slot: Slot, definitions: Definitions, where: str) -> Slot:
    """``slot`` with all that its connection gives; itself where it names none, or a second time.

    The account's adapter has the connection's settings, as it has when the connection is used alone. What the node says
    of the same thing wins, except credentials, which it does not say. Its own budget is instead of the connection's.
    ``where`` is how errors call the setting.

    Raises:
        ConfigError: there is no such connection, it is of another provider, or its budget is none.
    """
    if slot.connection is None:
        return slot
    provider = _vendor_of(slot)
    try:
        definition = definitions.get(slot.connection)
        budget = definition.own_budget(slot.connection)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}") from None
    if definition.provider != provider.vendor:
        raise ConfigError(
            f"{where}: {slot.connection} is of the provider {definition.provider}, and the nodes of {slot.provider} "
            f"need one of {provider.vendor}"
        )
    words = provider.account_words
    given = {key: value for key, value in definition.settings.items() if words.get(key) not in slot.arguments}
    return replace(
        slot,
        arguments={**provider.arguments_of(definition.settings), **slot.arguments},
        settings={**_unsaid(provider, slot), **given, **slot.settings},
        budget=budget if budget is not None and slot.budget == BudgetSettings() else slot.budget,
        connection=None,
    )


def credentials_of(slot: Slot) -> dict[str, str]:
    """The names of the secrets of an account that no connection gives, by setting or by what its nodes call them.

    Raises:
        ConfigError: what is written of the account cannot work; the text names it, also where its own code failed.
    """
    with told_as(f"cluster account {slot.name!r}"):
        provider, nodes = NodeProviderRegistry.instantiate(slot.provider, **slot.arguments)
        if isinstance(provider, VendorProvider):
            vendors = cast("VendorProvider[Any]", provider)
            table: Mapping[str, Any] = vendors.config(vendors.arguments(slot.arguments)) | slot.settings
            model = config_of(vendors.vendor)
            return {} if model is None else secrets_in(model, table)
        return {key: str(name) for node in nodes for key, name in node.credentials.items()}


def _vendor_of(slot: Slot) -> type[VendorProvider[Any]]:
    provider = NodeProviderRegistry.get(slot.provider)
    if not issubclass(provider, VendorProvider):  # `slot_of` has refused it
        raise ConfigError(f"connection: {slot.provider} runs circuits itself, so no connection can give its account")
    return cast("type[VendorProvider[Any]]", provider)


def _unsaid(provider: type[VendorProvider[Any]], slot: Slot) -> dict[str, Any]:
    """What holds of the adapter where neither node nor connection says it, over defaults of the node's arguments."""
    model = config_of(provider.vendor)
    fields = {} if model is None else model.model_fields
    words = {**provider.credential_words(), **provider.account_words}
    return {
        name: fields[name].get_default(call_default_factory=True)
        for name, argument in words.items()
        if name in fields and argument not in slot.arguments and not fields[name].is_required()
    }
