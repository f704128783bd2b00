"""``qcompute init``: asks for what a miner needs, writes its settings file, and looks whether it will do."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from qcompute.connections.operations import needs_connection
from qcompute.console.app import Json, command
from qcompute.console.arguments import invocation_of, output_for
from qcompute.console.commands.doctor import found_by, show
from qcompute.console.doctor.findings import is_healthy
from qcompute.console.exit_codes import ExitCode
from qcompute.console.first_settings import QUESTIONS, Question, answered, document, require_room, value_of, write
from qcompute.console.output import Output, Style
from qcompute.errors import ConfigError
from qcompute.miner.settings_flags import CommandLine
from qcompute.miner.settings_load import catalogue


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the command."""
    del summary  # the function's own docstring says it
    command(app, name, init)


def init(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="the settings file")] = Path("miner.toml"),
    *,
    yes: Annotated[bool, typer.Option("--yes", help="ask nothing: take defaults and the flags given")] = False,
    force: Annotated[bool, typer.Option("--force", help="replace FILE")] = False,
    look: Annotated[bool, typer.Option(help="look at once whether everything is there, as `qcompute doctor`")] = True,
    json: Json = False,
) -> int:
    """Ask for what a miner needs and write its settings file; nothing secret is asked for or written.

    Every flag of the daemon may be given beforehand (--wallet.name, --provider ...) and is written without asking.
    Exit code 1: the file is written, and the doctor found something that keeps the miner from working.
    """
    require_room(file, force=force)
    invocation = invocation_of(ctx)
    given = _given(invocation.flags)
    is_silent = yes or json or not sys.stdin.isatty()
    answers = dict(given)
    for question in QUESTIONS:
        if question.name not in given and (value := _answer(question, invocation.environ, is_silent)) is not None:
            answers[question.name] = value
    write(file, document(answers), force=force)
    findings = found_by(replace(invocation, flags=("--config", str(file)))) if look else []
    output = output_for(as_json=json)
    steps = _next_steps(file, str(answers["provider"]))
    if json:
        looked = [one.document() for one in findings]
        output.document({"file": str(file), "settings": answers, "findings": looked, "next": steps})
    else:
        _tell(file, output, steps)
        if findings:
            show(findings, output)
    return ExitCode.DONE if is_healthy(findings) else ExitCode.FAILED


def _given(flags: Any) -> dict[str, Any]:  # noqa: ANN401 - as split has them
    """The settings among the command's flags, by name.

    Raises:
        ConfigError: one is unknown or cannot be read.
    """
    problems: list[str] = []
    read = CommandLine(flags, catalogue(), problems).read()
    if problems:
        raise ConfigError("; ".join(problems))
    return {".".join(one.path): value_of(one) for one in read.given}


def _answer(question: Question, environ: Mapping[str, str], is_silent: bool) -> Any:  # noqa: ANN401, FBT001
    """The value for the file; None to leave the setting out.

    Raises:
        ConfigError: nobody can be asked, and there is no default.
    """
    known = catalogue()
    setting = known.by_name[question.name]
    names = [name for name, one in known.reference_variables.items() if one is setting]
    default = next((environ[name] for name in (setting.variable, *names) if environ.get(name)), question.default)
    if is_silent:
        if default is None:
            raise ConfigError(
                f"{question.name} must be given: {setting.flag} VALUE, or {names[0] if names else setting.variable}"
            )
        return answered(question, default) if default else None
    while True:
        text: str = typer.prompt(question.words, default=default)
        try:
            return answered(question, text) if text.strip() else None
        except ConfigError as error:
            typer.echo(error.message, err=True)


def _next_steps(file: Path, provider: str) -> list[str]:
    """What is left to do, as commands."""
    steps: list[str] = []
    where = shlex.quote(str(file))
    if (needed := needs_connection(provider)) is not None:
        settings = "".join(f" --set {name}=…" for name in needed)
        steps.append(f"qcompute connections add my-{provider} {provider}{settings} --config {where}")
        steps.append(f"qcompute connections use my-{provider} --config {where}")
    return [*steps, f"qcompute doctor --config {where}", f"qcompute-miner --config {where}"]


def _tell(file: Path, output: Output, steps: list[str]) -> None:
    output.line(f"{file} is written. Next:", Style.HEADING)
    for step in steps:
        output.command(step)
    output.line()
