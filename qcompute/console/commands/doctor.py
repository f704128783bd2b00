"""``qcompute doctor``: whether everything a miner needs is there, one page, each failing line with its fix."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import typer

from qcompute.console.app import Json, command
from qcompute.console.arguments import Invocation, invocation_of, output_for
from qcompute.console.doctor import examine, machine
from qcompute.console.doctor.findings import Finding, Level, failed, is_healthy
from qcompute.console.exit_codes import ExitCode
from qcompute.console.output import Output, Style
from qcompute.errors import ConfigError

_STYLES: Final[Mapping[Level, Style]] = {
    Level.OK: Style.GOOD,
    Level.UNKNOWN: Style.FAINT,
    Level.WARNING: Style.WARNING,
    Level.FAILED: Style.BAD,
}


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the command."""
    del summary  # the function's own docstring says it
    command(app, name, doctor)


def doctor(ctx: typer.Context, *, json: Json = False) -> int:
    """Look whether machine, wallet, subnet, platform and accounts will do; each failing line says how to mend it.

    Nothing is changed and nothing is spent. The axon's port is bound for a moment when it is free, to see whether the
    published address leads here. Run it before the first start, and when something is wrong. Exit code 1: something
    failed.
    """
    findings = found_by(invocation_of(ctx))
    output = output_for(as_json=json)
    if json:
        output.document({"is_healthy": is_healthy(findings), "findings": [one.document() for one in findings]})
    else:
        show(findings, output)
    return ExitCode.DONE if is_healthy(findings) else ExitCode.FAILED


def found_by(invocation: Invocation) -> list[Finding]:
    """All findings; of settings that cannot be used, what is wrong with each."""
    try:
        settings = invocation.loaded().settings
    except ConfigError as error:
        fix = "correct it where it says, or write a new file with `qcompute init`"
        return [machine.python(), *(failed("settings", line, fix) for line in error.message.splitlines())]
    return asyncio.run(examine(settings))


def show(findings: Sequence[Finding], output: Output) -> None:
    """One line each, and below those that are not well what to do."""
    width = max(len(one.subject) for one in findings)
    for one in findings:
        output.line(f"{one.level:<7}  {one.subject:<{width}}  {one.words}", _STYLES[one.level])
        if one.fix:
            output.line(f"{'':<7}  {'':<{width}}  -> {one.fix}")
    bad = sum(one.level is Level.FAILED for one in findings)
    output.line(f"{bad} of {len(findings)} failed" if bad else "nothing failed", Style.BAD if bad else Style.GOOD)
