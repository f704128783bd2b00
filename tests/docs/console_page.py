"""The page of ``docs/reference`` about the operator's command, written from its commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import typer.main

from qcompute.console.app import application
from qcompute.console.exit_codes import MEANINGS

_HEAD: Final = """\
<!-- Written by `make docs` from the code; change it there. -->

# The command `qcompute`

`qcompute COMMAND …`, or `python -m qcompute.console COMMAND …`; each has `--help`. What it changes it changes through
the running daemon, or in the ledger itself when none runs; what only reads works beside a running daemon.

Which miner is meant is said as to the daemon, by the same [settings](settings.md) from the same sources:
`--neuron.name`, `--neuron.full_path`, `--ledger.path`, `--config`, their `QCOMPUTE_` variables, `.env`. They may stand
anywhere in the line.

`qcompute --install-completion` teaches bash, zsh or fish to complete commands, options and the ids of jobs.

Text is for people: coloured on a terminal unless `NO_COLOR` is set, in lists where a terminal is narrower than 80
columns, and with whole lines where it is no terminal. `--json` is for programs: one JSON document, whose keys stay.

## Exit codes

"""

_WRONG: Final = """
What is wrong is one line on standard error; with `--json` it is also `{"error": {"code": …, "message": …}}` on standard
output.
"""

_LEFT_OUT: Final = frozenset({"--help", "--json"})


def commands() -> list[tuple[tuple[str, ...], Any]]:
    """The words and the command of each."""
    return list(_below((), typer.main.get_command(application())))


def console_page() -> str:
    """``docs/reference/console.md``."""
    codes = "".join(f"| {code.value} | {meaning} |\n" for code, meaning in MEANINGS.items())
    parts = [_HEAD, f"| exit code | means |\n|---|---|\n{codes}", _WRONG]
    for words, command in commands():
        name = " ".join(("qcompute", *words))
        parts.append(f"\n## `{name}`\n\n{_usage(command, name)}")
        parts.append(f"\n{' '.join((command.help or '').split())}\n")
        if rows := list(_rows(command)):
            parts.append("\n| argument | |\n|---|---|\n" + "".join(rows))
    return "".join(parts)


def _below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    below: dict[str, Any] | None = getattr(command, "commands", None)
    if below is None:
        yield words, command
        return
    for name, one in below.items():
        yield from _below((*words, name), one)


def _parameters(command: Any) -> Iterator[Any]:
    return (one for one in command.params if not _LEFT_OUT & set(one.opts))


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper()).strip("[]")
    value = "" if parameter.is_flag else str(parameter.metavar or _choices(parameter))
    return " ".join(part for part in (parameter.opts[0], value) if part)


def _choices(parameter: Any) -> str:
    return "|".join(str(one.value) for one in parameter.type_descriptor.choices or ()) or parameter.name.upper()


def _usage(command: Any, name: str) -> str:
    parameters = sorted(_parameters(command), key=lambda one: one.param_type_name != "argument")
    words = [_name(one) if one.required else f"[{_name(one)}]" for one in parameters]
    return f"```\n{' '.join([name, *words, '[--json]'])}\n```\n"


def _rows(command: Any) -> Iterator[str]:
    for one in _parameters(command):
        if one.help:
            default = f" (default: {one.default})" if isinstance(one.default, int | str) and one.default else ""
            yield f"| `{_name(one).replace('|', chr(92) + '|')}` | {one.help}{default} |\n"
