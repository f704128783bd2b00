"""The commands of ``qcompute`` as one typer application, of which only what is asked for is imported.

A group is a file of `qcompute.console.commands` with a function ``add_to(app, name, summary)``, and a line in `GROUPS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Final

import typer

from qcompute import __version__
from qcompute.errors import Bug

PROGRAM: Final = "qcompute"

GROUPS: Final[Mapping[str, str]] = {
    "init": "ask for what a miner needs, and write its settings file",
    "doctor": "look whether everything a miner needs is there, with the fix for what is not",
    "run": "run a circuit of your own on the running daemon",
    "expect": "give an expectation value of a circuit too wide for your devices, by cutting it",
    "devices": "list the devices of all accounts: qubits, state, queue, price",
    "providers": "list every provider, usable or why not",
    "connections": "named ways to reach accounts, their credentials, and which one new jobs go to",
    "budget": "show what was spent, is reserved and is left",
    "jobs": "look at jobs, and decide about those that are held",
    "ledger": "back up, check, restore, or take over a ledger",
    "receipts": "check and export signed receipts",
    "config": "check and show the daemon's settings",
    "logs": "read the daemon's log",
}
"""Each group or command of its own, and what it is for."""

EPILOG: Final = (
    "Which miner is meant is said as to the daemon: --neuron.name NAME, --neuron.full_path FOLDER, --ledger.path FILE, "
    "--config FILE, or the same QCOMPUTE_ variables. `python neurons/miner.py --help` lists all settings. "
    "Exit codes: 0 done, 1 something is wrong, 2 wrong arguments, settings or files, 3 no daemon answers."
)

_CONTEXT: Final = {"help_option_names": ["-h", "--help"]}

Json = Annotated[bool, typer.Option("--json", help="one JSON document on standard output, for programs")]
"""The option every command has."""


def application(used: Collection[str] | None = None) -> typer.Typer:
    """The application with the groups of ``used`` (None: all); the others are there by their names alone."""
    app = typer.Typer(
        name=PROGRAM,
        help="Looks after a miner: its jobs, its money, its devices and its ledger.",
        epilog=EPILOG,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT,
    )
    app.callback()(_root)
    for name, summary in GROUPS.items():
        if used is None or name in used:
            add_to: Callable[[typer.Typer, str, str], None] = importlib.import_module(
                f"qcompute.console.commands.{name}"
            ).add_to
            add_to(app, name, summary)
        else:
            app.command(name, help=sentence(summary), context_settings=_CONTEXT)(_not_imported)
    return app


def group(summary: str) -> typer.Typer:
    """An empty group of commands."""
    return typer.Typer(
        help=sentence(summary), epilog=EPILOG, rich_markup_mode=None, add_completion=False, context_settings=_CONTEXT
    )


def command(app: typer.Typer, name: str, function: Callable[..., int]) -> None:
    """Add a command whose help is its function's docstring."""
    app.command(name, epilog=EPILOG, context_settings=_CONTEXT)(function)


def words_used(arguments: Sequence[str]) -> set[str]:
    """The groups a command line, or one that is to be completed, may need."""
    return {word for word in arguments if word in GROUPS}


def sentence(summary: str) -> str:
    """A summary as a sentence of its own."""
    return f"{summary[0].upper()}{summary[1:]}."


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, then end.")
    ] = False,
) -> None:
    """Nothing of its own: the commands do it all."""


def _not_imported() -> int:
    raise Bug("the command that was asked for was not imported")
