"""The page of ``docs/reference`` about the operator's command, written from its parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Final, cast

from qcompute.console.arguments import parser

_HEAD: Final = """\
<!-- Written by `make docs` from the code; change it there. -->

# The command `qcompute`

`qcompute GROUP COMMAND …`, or `python -m qcompute.console GROUP COMMAND …`; each has `--help`. What it changes it
changes through the running daemon, or in the ledger itself when none runs; what only reads works beside a running
daemon.

Which ledger is meant is said as to the daemon, by the same [settings](settings.md) from the same sources:
`--neuron.name`, `--neuron.full_path`, `--ledger.path`, `--config`, their `QCOMPUTE_` variables, `.env`. They may stand
anywhere in the line.

| exit code | means |
|---|---|
| 0 | done |
| 1 | it was tried and something is wrong: a problem was found, the job is not held, the database failed |
| 2 | it cannot be done as asked: an argument, a setting or a file is wrong, or a daemon has the ledger |

What is wrong is one line on standard error.
"""


def console_page() -> str:
    """``docs/reference/console.md``."""
    parts = [_HEAD]
    for name, group in _below(parser()).items():
        for word, command in _below(group).items():
            parts.append(f"\n## `qcompute {name} {word}`\n\n{_usage(command, f'qcompute {name} {word}')}")
            summary, _, more = (command.description or "").partition("\n\n")
            parts.append(f"\n{summary} {' '.join(more.split())}\n")
            if rows := list(_rows(command)):
                parts.append("\n| argument | |\n|---|---|\n" + "".join(rows))
    return "".join(parts)


def _below(command: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            return cast("Mapping[str, argparse.ArgumentParser]", action.choices)
    return {}


def _arguments(command: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    return (action for action in command._actions if "--help" not in action.option_strings)


def _name(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else str(action.metavar)
    return " ".join(part for part in (*action.option_strings, value) if part)


def _usage(command: argparse.ArgumentParser, name: str) -> str:
    words = [name]
    for action in sorted(_arguments(command), key=lambda action: bool(action.option_strings)):
        optional = not action.required or action.nargs == "?"
        words.append(f"[{_name(action)}]" if optional else _name(action))
    return f"```\n{' '.join(words)}\n```\n"


def _rows(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in _arguments(command):
        if action.help:
            yield f"| `{_name(action)}` | {action.help} |\n"
