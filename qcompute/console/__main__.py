"""The operator's command: ``qcompute``, or ``python -m qcompute.console``."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from qcompute.console.arguments import CONNECTIONS, EXIT_FAILED, EXIT_USAGE, parser, settings_from, split
from qcompute.errors import ConfigError, QComputeError

_GROUPS: Final[Mapping[str, str]] = {"ledger": "qcompute.console.ledger", "jobs": "qcompute.console.jobs"}
"""Imported when asked for: help and a wrong argument are answered at once."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one command. Returns 0 when it is done, 1 when something is wrong, 2 when it cannot be done as asked."""
    ours, flags = split(sys.argv[1:] if arguments is None else arguments)
    is_typer = ours[:1] == [CONNECTIONS]
    wish = None if is_typer else parser().parse_args(ours)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        settings = settings_from(flags, os.environ, Path.cwd())
        if wish is None:
            return importlib.import_module("qcompute.console.commands.connections").run(ours[1:], settings)
        run: Callable[..., int] = importlib.import_module(_GROUPS[wish.group]).run
        return run(wish, settings)
    except ConfigError as error:
        return _wrong(error, EXIT_USAGE)
    except QComputeError as error:
        return _wrong(error, EXIT_FAILED)
    except KeyboardInterrupt:
        sys.stderr.write("qcompute: interrupted; nothing was left half done\n")
        return EXIT_FAILED


def _wrong(error: QComputeError, code: int) -> int:
    sys.stderr.write(f"qcompute: {error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
