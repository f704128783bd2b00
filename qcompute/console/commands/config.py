"""``qcompute config …``: the daemon's settings, checked and shown."""

from __future__ import annotations

import typer

from qcompute.cluster.checking import checked_fleet
from qcompute.connections.definitions import FILE, Definitions
from qcompute.connections.store import CredentialStore
from qcompute.console.app import Json, command, group
from qcompute.console.arguments import invocation_of, output_for
from qcompute.console.exit_codes import ExitCode
from qcompute.console.output import Style
from qcompute.errors import ConfigError
from qcompute.miner.fleet import check_fallback
from qcompute.miner.opening import CLUSTER, refuse_own_budget
from qcompute.miner.providers import registry
from qcompute.miner.settings import Settings
from qcompute.miner.settings_cli import rows_of


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the group."""
    ours = group(summary)
    command(ours, "check", check)
    command(ours, "show", show)
    app.add_typer(ours, name=name)


def check(ctx: typer.Context, *, json: Json = False) -> int:
    """Check all settings as the daemon would take them, and tell every problem at once, each with its setting.

    The chosen provider's own settings are checked too, and whether the secrets they name can be found. Opens nothing
    and asks nobody. Exit code 1: there is a problem.
    """
    problems, warnings = _problems(ctx)
    output = output_for(as_json=json)
    if json:
        output.document({"is_sound": not problems, "problems": problems, "warnings": warnings})
    else:
        for problem in problems:
            output.line(problem, Style.BAD)
        for warning in warnings:
            output.line(f"warning: {warning}", Style.WARNING)
        output.line(f"{len(problems)} problems" if problems else "sound", Style.BAD if problems else Style.GOOD)
    return ExitCode.FAILED if problems else ExitCode.DONE


def _problems(ctx: typer.Context) -> tuple[list[str], list[str]]:
    try:
        loaded = invocation_of(ctx).loaded()
    except ConfigError as error:
        return error.message.splitlines(), []
    return _providers_problems(loaded.settings), list(loaded.warnings)


def _providers_problems(settings: Settings) -> list[str]:
    CredentialStore(settings.connections, settings.neuron.directory).install()
    if settings.provider == CLUSTER:
        return _fleet_problems(settings)
    key, table = str(settings.provider), settings.provider_table
    known: dict[str, str | None] = {info.key: info.problem for info in registry.available()}
    known |= dict.fromkeys(Definitions(settings.neuron.directory / FILE).all())
    if key not in known and ":" not in key:
        return [f"provider: {key!r} is none of {', '.join(known)}"]
    if (problem := known.get(key) or registry.settings_problem(key, table)) is None:
        return []
    return [problem if problem.startswith("providers.") else f"provider {key}: {problem}"]


def _fleet_problems(settings: Settings) -> list[str]:
    """What would end the start, of every account: its settings, its secrets, and what it needs installed."""
    problems, listed = checked_fleet(settings.cluster, settings.neuron.directory)
    for check in (
        lambda: refuse_own_budget(settings),
        lambda: check_fallback(settings.routing.fallback, listed) if listed else None,
    ):
        try:
            check()
        except ConfigError as error:
            problems.append(error.message)
    return problems


def show(ctx: typer.Context, *, json: Json = False) -> int:
    """Show every setting, its value and where that came from; secrets are masked."""
    try:
        loaded = invocation_of(ctx).loaded()
    except ConfigError as error:
        raise ConfigError("; ".join(error.message.splitlines())) from None
    rows = rows_of(loaded)
    output = output_for(as_json=json)
    if json:
        settings = {name: {"value": value, "from": origin} for name, value, origin in rows}
        output.document({"settings": settings, "warnings": list(loaded.warnings)})
        return ExitCode.DONE
    output.table(("SETTING", "VALUE", "FROM"), rows, empty="no settings")
    for warning in loaded.warnings:
        output.line(f"warning: {warning}", Style.WARNING)
    return ExitCode.DONE
