"""``qcompute providers``: every vendor this miner could use, or why it cannot."""

from __future__ import annotations

from typing import Any

import typer

from qcompute.cluster.accounts import slots_of, vendor_of
from qcompute.console.app import Json, command
from qcompute.console.arguments import invocation_of, output_for
from qcompute.console.exit_codes import ExitCode
from qcompute.errors import ConfigError
from qcompute.miner.opening import CLUSTER
from qcompute.miner.providers import registry
from qcompute.miner.providers.registry import ProviderInfo
from qcompute.miner.settings import Settings


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the command."""
    del summary  # the function's own docstring says it
    command(app, name, providers)


def providers(ctx: typer.Context, *, json: Json = False) -> int:
    """List every provider, usable or why not.

    A provider is an adapter of this package, of an installed one, or a file; PROVIDER chooses one, or PROVIDER=cluster
    those of the [cluster] table. Asks no vendor: `qcompute devices` does.
    """
    settings = invocation_of(ctx).settings()
    chosen = chosen_by(settings)
    found = [_document(info, settings, is_chosen=info.key in chosen) for info in registry.available()]
    output = output_for(as_json=json)
    if json:
        output.document({"providers": found, "chosen": sorted(chosen)})
        return ExitCode.DONE
    rows = [
        (
            one["key"],
            "chosen" if one["is_chosen"] else "usable" if one["is_usable"] else "not usable",
            one["origin"],
            one["problem"] or "",
        )
        for one in found
    ]
    output.table(("PROVIDER", "STATE", "FROM", "WHY NOT"), rows, empty="no providers")
    return ExitCode.DONE


def chosen_by(settings: Settings) -> set[str]:
    """The keys of adapters that the settings choose, and of an own node provider its path or name.

    Those of a fleet that cannot be read are none.
    """
    if settings.provider != CLUSTER:
        return {settings.provider}
    try:
        return {vendor_of(slot) for slot in slots_of(settings.cluster)}
    except ConfigError:
        return set()


def _document(info: ProviderInfo, settings: Settings, *, is_chosen: bool) -> dict[str, Any]:
    # What accounts of a fleet are set to stands in the fleet: `qcompute config check` looks at each of them.
    table = None if is_chosen and settings.provider == CLUSTER else settings.providers.get(info.key, {})
    problem = info.problem or (None if table is None else registry.settings_problem(info.key, table))
    return {
        "key": info.key,
        "origin": info.origin,
        "extra": info.extra,
        "is_chosen": is_chosen,
        "is_usable": problem is None,
        "problem": problem,
    }
