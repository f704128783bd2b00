"""The command line of ``qcompute``: the commands, and the daemon's own settings among their arguments.

The settings say which ledger is meant, so they are those of ``neurons/miner.py``, from the same sources. Their flags
have a dot or are in the list of settings; argparse never sees them: it would take their values for its own arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from typing_extensions import override

from qcompute import __version__
from qcompute.errors import ConfigError
from qcompute.miner.job import State
from qcompute.miner.settings import Settings
from qcompute.miner.settings_fields import Kind
from qcompute.miner.settings_flags import CONFIG_FLAG, CommandLine
from qcompute.miner.settings_load import catalogue, load
from qcompute.miner.settings_sources import SWITCH_WORDS

CONNECTIONS: Final = "connections"
"""The group whose own parser is in `qcompute.console.commands.connections`."""

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

_WHICH: Final = """\
Which ledger is meant is said as to the daemon: --neuron.name NAME, --neuron.full_path FOLDER, --ledger.path FILE,
--config FILE, or the same QCOMPUTE_ variables. `python neurons/miner.py --help` lists all settings.

exit codes: 0 done, 1 it was tried and something is wrong, 2 wrong arguments, settings or files
"""

_UNUSED_SERVERS: Final = {
    "JOB_SERVER_URL": "https://not-used-here.invalid",
    "TENSORAUTH_URL": "https://not-used-here.invalid",
}
"""The daemon must be given these; no command here speaks to them, and a backup by cron must not need them."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    @override
    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}; see {self.prog} --help\n")
        raise SystemExit(EXIT_USAGE)


def parser() -> argparse.ArgumentParser:
    """All commands and their arguments; the reference page is written from it."""
    top = _Parser(
        prog="qcompute",
        description="Looks after a miner's jobs: its ledger and the jobs that are held.",
        epilog=_WHICH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"qcompute {__version__}")
    groups = top.add_subparsers(dest="group", required=True, metavar="COMMAND").add_parser
    _ledger(_group(groups, "ledger", "back up, check, restore, or take over a ledger"))
    _jobs(_group(groups, "jobs", "look at jobs, and decide about those that are held"))
    groups(CONNECTIONS, help="named ways to reach accounts, their credentials, and which is in use", add_help=False)
    return top


_Adder = Callable[..., argparse.ArgumentParser]
"""The ``add_parser`` of a group of commands."""


def _group(add: _Adder, name: str, text: str) -> _Adder:
    group = add(name, help=text, description=f"{text.capitalize()}.", allow_abbrev=False)
    return group.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser


def _add(commands: _Adder, name: str, summary: str, more: str) -> argparse.ArgumentParser:
    return commands(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{more}",
        epilog=_WHICH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _ledger(commands: _Adder) -> None:
    backup = _add(
        commands,
        "backup",
        "copy the ledger of a running or stopped daemon",
        "The copy is the state of one moment, for its owner alone, and checked before it gets its name. The key of\n"
        "the stored URLs is copied to FILE.key. The daemon is not held up.",
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="where to; the folder must exist")
    backup.add_argument("--force", action="store_true", help="replace FILE and FILE.key if they exist")

    check = _add(
        commands,
        "check",
        "look through a ledger, or a copy of one, for anything wrong",
        "The file, its schema, every row and its parts, the order of closing, the key, and the signature of every\n"
        "receipt. Reads only; the daemon may be running.",
    )
    check.add_argument("file", type=Path, metavar="FILE", nargs="?", help="a copy; the daemon's own ledger if left out")
    check.add_argument("--hotkey", metavar="SS58", help="who must have signed the receipts; any one hotkey if left out")

    restore = _add(
        commands,
        "restore",
        "put a copy in the place of the ledger; the daemon must be stopped",
        "The copy is checked first, and the replaced ledger kept beside it as NAME.before-restore-TIME. Whatever may\n"
        "have been submitted since the copy is looked for at the vendor before anything is submitted. Jobs accepted\n"
        "since the copy are not in it. Requests signed before the restore are refused from then on.",
    )
    restore.add_argument("file", type=Path, metavar="FILE", help="the copy, with its key in FILE.key")
    restore.add_argument("--force", action="store_true", help="also a copy in which check finds something wrong")

    reference = _add(
        commands,
        "import-reference",
        "take over the database of the subnet's reference miner; both must be stopped",
        "Finished jobs can be collected as before, also with cursors validators got from it. Jobs under way wait for\n"
        "their vendor's job, or are held for you. Nothing is submitted. A second run takes over only what is new.",
    )
    reference.add_argument("file", type=Path, metavar="FILE", help="its SQLite file, miner_HOTKEY.db or the like")
    reference.add_argument("--dry-run", action="store_true", help="only count what would be taken over")
    reference.add_argument("--as-provider", metavar="KEY", help="the adapter that knows the jobs under way")
    reference.add_argument("--skip-unreadable", action="store_true", help="leave out rows that are not understood")


def _jobs(commands: _Adder) -> None:
    listing = _add(commands, "list", "list jobs, the newest first", "Reads only; the daemon may be running.")
    listing.add_argument(
        "--state", choices=[state.value for state in State], metavar="STATE", help=f"one of: {', '.join(State)}"
    )
    listing.add_argument("--limit", type=_positive, default=50, metavar="N", help="at most so many (default: 50)")
    listing.add_argument("--json", action="store_true", help="one JSON object a line, as show has them")

    show = _add(commands, "show", "all about one job, as JSON", "No URL, no circuit. The daemon may be running.")
    show.add_argument("execution_id", metavar="ID")

    tell = "A running daemon is told; with none running the ledger is changed itself."
    release = _add(
        commands,
        "release",
        "let a held job go on where it was held",
        f"One that has a vendor's job is polled again, one that may have been submitted is looked for again. {tell}",
    )
    release.add_argument("execution_id", metavar="ID")
    release.add_argument(
        "--never-submitted",
        action="store_true",
        help="you have seen that the vendor has no such job: submit it. If it has, you pay twice",
    )
    _reason(release, required=False)

    fail = _add(commands, "fail", "end a held job as failed", f"Its user is told the reason. {tell}")
    fail.add_argument("execution_id", metavar="ID")
    _reason(fail, required=True)

    adopt = _add(
        commands,
        "adopt",
        "take a job of the vendor's for a held job, and wait for its result",
        f"Look twice: another's job gives this one another's result. {tell}",
    )
    adopt.add_argument("execution_id", metavar="ID")
    adopt.add_argument("provider_job_id", metavar="PROVIDER_JOB_ID", help="the vendor's own id of it")
    _reason(adopt, required=False)


def _reason(command: argparse.ArgumentParser, *, required: bool) -> None:
    command.add_argument("--reason", metavar="TEXT", required=required, default="", help="why, for the log")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command's own arguments, and those that are settings of the daemon."""
    rest, ours, settings = list(arguments), list[str](), list[str]()
    known = catalogue()
    while rest:
        argument = rest.pop(0)
        flag, equals, _ = argument.partition("=")
        found = known.flag(flag)
        if not (flag.startswith("--") and (found is not None or "." in flag or flag == CONFIG_FLAG)):
            ours.append(argument)
            continue
        settings.append(argument)
        if equals or not rest:
            continue
        is_switch = found is not None and found[0].kind is Kind.SWITCH
        if rest[0].lower() in SWITCH_WORDS if is_switch else not rest[0].startswith("--"):
            settings.append(rest.pop(0))
    return ours, settings


def settings_from(flags: Sequence[str], environ: Mapping[str, str], folder: Path) -> Settings:
    """The daemon's settings, without those nothing here needs.

    Raises:
        ConfigError: one is unknown or wrong; names it.
    """
    problems: list[str] = []
    command = CommandLine(flags, catalogue(), problems).read()
    try:
        return load(command, {**_UNUSED_SERVERS, **environ}, folder, problems).settings
    except ConfigError as error:
        raise ConfigError("; ".join(error.message.splitlines())) from None
