"""``qcompute config …``: the daemon's settings, checked and shown."""

from __future__ import annotations

import typer

from qcompute.cluster.checking import Listed, checked_fleet
from qcompute.connections.store import CredentialStore
from qcompute.console.app import Json, command, group
from qcompute.console.arguments import invocation_of, output_for
from qcompute.console.exit_codes import ExitCode
from qcompute.console.output import Style
from qcompute.errors import ConfigError
from qcompute.miner.fleet import check_fallback
from qcompute.miner.opening import CLUSTER, AccountOpener, refuse_own_budget
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

    The settings of the accounts it would start with are checked too, those of a connection that was chosen with
    `qcompute connections use` as well, and whether the secrets they name can be found. Opens nothing and asks nobody.
    Warnings are of what the daemon starts with all the same: a GPU that is not there, for one. Exit code 1: there is a
    problem.
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
    problems, warnings = _accounts_problems(loaded.settings)
    return problems, [*loaded.warnings, *warnings]


def _accounts_problems(settings: Settings) -> tuple[list[str], list[str]]:
    """What would end the start, and what is wrong with accounts that it goes on without."""
    CredentialStore(settings.connections, settings.neuron.directory).install()
    opener = AccountOpener(settings)
    try:
        first = opener.first()
    except ConfigError as error:
        problems, warnings = _home_problems(settings, opener)
        return [error.message, *problems], warnings
    if first == opener.home:
        return _home_problems(settings, opener)
    chosen = [opener.with_way_back(first, problem) for problem in _account_problems(settings, opener, first)]
    problems, warnings = _home_problems(settings, opener)
    unused = f"{opener.home}, which no new jobs go to now:"
    return chosen, [f"{unused} {problem}" for problem in (*problems, *warnings)]


def _home_problems(settings: Settings, opener: AccountOpener) -> tuple[list[str], list[str]]:
    """Of the accounts of the settings, and of what else in them is about their accounts."""
    warnings: list[str] = []
    listed: Listed | None = {str(settings.provider): None}
    if settings.provider == CLUSTER:
        fleet = checked_fleet(settings.cluster, settings.neuron.directory)
        problems, warnings, listed = fleet.problems, fleet.warnings, fleet.listed
    else:
        problems = _account_problems(settings, opener, settings.provider)
    try:
        if settings.provider == CLUSTER:
            refuse_own_budget(settings)
    except ConfigError as error:
        problems.append(error.message)
    try:
        if listed is not None:  # else an entry may be of an account that could not be read
            check_fallback(settings.routing.fallback, listed)
    except ConfigError as error:
        problems.append(error.message)
    return problems, warnings


def _account_problems(settings: Settings, opener: AccountOpener, name: str) -> list[str]:
    """What is wrong with the one account of a group: a provider's, or a connection's."""
    try:
        definition = opener.definition_of(name)
        if definition is None:
            key, table, where = name, settings.provider_table, f"provider {name}: "
        else:
            definition.own_budget(name)
            key, table, where = definition.provider, definition.settings, f"connection {name}: "
        there = registry.keys()
        if key not in there and ":" not in key:
            known = [*there, *opener.definitions.all()] if definition is None else there
            return [f"{'provider: ' if definition is None else where}{key!r} is none of {', '.join(known)}"]
    except ConfigError as error:
        return [error.message]
    if (problem := registry.missing_of(key) or registry.settings_problem(key, table)) is None:
        return []
    return [problem if definition is None and problem.startswith("providers.") else f"{where}{problem}"]


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
