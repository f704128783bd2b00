"""``qcompute logs``: the daemon's log, filtered, for people or for programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from qcompute.console.app import Json, command
from qcompute.console.arguments import output_for
from qcompute.console.exit_codes import ExitCode
from qcompute.console.log_lines import Wanted, followed, last_of, record_of
from qcompute.console.output import Output, Style
from qcompute.errors import ConfigError
from qcompute.miner.settings import LogLevel

_STANDARD_INPUT = "-"

_STYLES = {"debug": Style.FAINT, "warning": Style.WARNING, "error": Style.BAD, "critical": Style.BAD}


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the command."""
    del summary  # the function's own docstring says it
    command(app, name, logs)


def logs(
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="the daemon's log, as text or JSON; standard input if left out")
    ] = _STANDARD_INPUT,
    *,
    job: Annotated[str | None, typer.Option(metavar="ID", help="of this job, and of its parts")] = None,
    action: Annotated[
        list[str] | None, typer.Option(metavar="WORD", help="with this action; may be given again")
    ] = None,
    level: Annotated[LogLevel, typer.Option(help="of this level or a worse one")] = LogLevel.TRACE,
    lines: Annotated[int | None, typer.Option("-n", "--lines", metavar="N", min=1, help="the last so many")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on with what is written, until Ctrl-C")] = False,
    seconds: Annotated[float | None, typer.Option("--for", metavar="SECONDS", min=0, help="follow so long")] = None,
    json: Json = False,
) -> int:
    """Read the daemon's log: one line each, with its action, its job and what happened.

    Reads both formats of logging.format. With --json each line is one JSON document. pm2 keeps the log where `pm2
    describe` says; systemd's is `journalctl -o cat -u UNIT | qcompute logs`.
    """
    wanted = Wanted(job, frozenset(action or ()), level)
    output = output_for(as_json=json)
    if file == _STANDARD_INPUT:
        if follow:
            raise ConfigError("--follow needs FILE; standard input is read until it ends anyway")
        if sys.stdin.isatty():
            raise ConfigError("name the log's FILE, or pipe the log in: journalctl -o cat -u UNIT | qcompute logs")
        for line in last_of(sys.stdin, wanted, lines):
            _tell(record_of(line), output)
        return ExitCode.DONE
    try:
        with Path(file).open(encoding="utf-8", errors="replace") as source:
            for line in last_of(source, wanted, lines):
                _tell(record_of(line), output)
            if follow:
                for line in followed(Path(file), source, seconds):
                    if wanted.passes(record := record_of(line)):
                        _tell(record, output)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror})") from error
    return ExitCode.DONE


def _tell(record: dict[str, Any], output: Output) -> None:
    if output.as_json:
        output.record(record)
        return
    facts = [str(record[name]) for name in ("action", "execution_id") if record.get(name)]
    time, level = str(record.get("time", "")), str(record.get("level", ""))
    head = "  ".join(
        word for word in (time.replace("T", " ").rstrip("Z"), f"{level:<8}" if level else "", *facts) if word
    )
    output.line(
        f"{head}  {record.get('message', '')}" if head else str(record.get("message", "")),
        _STYLES.get(level, Style.PLAIN),
    )
