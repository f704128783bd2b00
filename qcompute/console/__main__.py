"""The operator's command: ``qcompute``, or ``python -m qcompute.console``."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from qcompute.console.app import PROGRAM, application, words_used
from qcompute.console.arguments import Invocation, split
from qcompute.console.exit_codes import ExitCode, NoDaemon
from qcompute.errors import ConfigError, QComputeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one command and return its exit code, see `qcompute.console.exit_codes`."""
    ours, flags = split(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    as_json = "--json" in ours
    # A shell that asks for completions passes the line's words in the environment.
    to_complete = os.environ.get("COMP_WORDS", os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()
    flags = flags or split(to_complete)[1]
    app = application(words_used([*ours, *to_complete]))
    try:
        ended = app(args=ours, prog_name=PROGRAM, standalone_mode=False, obj=Invocation(flags, os.environ, Path.cwd()))
    except typer.TyperException as error:
        return _wrong(_usage(error), "usage", ExitCode.USAGE, as_json=as_json)
    except ConfigError as error:
        return _wrong(error.message, error.code, ExitCode.USAGE, as_json=as_json)
    except NoDaemon as error:
        return _wrong(error.message, error.code, ExitCode.NO_DAEMON, as_json=as_json)
    except QComputeError as error:
        return _wrong(error.message, error.code, ExitCode.FAILED, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        ended = ExitCode.INTERRUPTED
    if ended == ExitCode.INTERRUPTED:
        return _wrong("interrupted; nothing was left half done", "interrupted", ExitCode.INTERRUPTED, as_json=as_json)
    return ExitCode.DONE if ended is None else int(ended)


def _wrong(message: str, code: str, ended: ExitCode, *, as_json: bool) -> ExitCode:
    """What is wrong, in one line on standard error; programs that asked for JSON get it as JSON besides."""
    line = " ".join(message.split())
    sys.stderr.write(f"{PROGRAM}: {line}\n")
    if as_json:
        sys.stdout.write(json.dumps({"error": {"code": code, "message": line}}, indent=2, ensure_ascii=False) + "\n")
    return ended


def _usage(error: typer.TyperException) -> str:
    from qcompute.faults import OWN_WORDS  # noqa: PLC0415 - loads pydantic, which `--help` does without

    context: typer.Context | None = getattr(error, "ctx", None)
    path = PROGRAM if context is None else context.command_path
    command = path.removeprefix(PROGRAM).strip()
    words = error.format_message().replace(OWN_WORDS, "")
    stop = "" if words.endswith((".", "?")) else "."  # typer ends some of its messages with one
    return f"{f'{command}: ' if command else ''}{words}{stop} See {path} --help"


if __name__ == "__main__":
    sys.exit(main())
