"""What commands say to the daemon about jobs of the operator's own, and ask the operator before those are paid."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from qcompute.console.sources import must_be_told
from qcompute.errors import ConfigError
from qcompute.miner.commands import THINK_SECONDS, AboutOwn
from qcompute.miner.settings import Settings

CircuitFile = Annotated[Path, typer.Argument(metavar="FILE", help="OpenQASM 2 or 3")]
ChosenDevice = Annotated[
    str | None, typer.Option(metavar="DEVICE_ID", help="a device, or ACCOUNT/DEVICE; the miner chooses if left out")
]


def circuit_text(file: Path) -> str:
    """The text of a circuit's file.

    Raises:
        ConfigError: it cannot be read, or is no text.
    """
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is no text in UTF-8") from None


def answered(settings: Settings, words: AboutOwn) -> dict[str, Any]:
    """What the daemon answers.

    Raises:
        NoDaemon: none runs.
        CommandRefused: it will not; says why.
        ConfigError: it does not answer, or this user may not speak to it.
    """
    return must_be_told(settings, words, within_seconds=THINK_SECONDS)["answer"]


def is_agreed(question: str, *, yes: bool, as_json: bool) -> bool:
    """Whether the operator wants what was shown; asked at a terminal.

    Raises:
        ConfigError: nobody can be asked, and ``yes`` was not said.
    """
    if yes:
        return True
    if as_json or not sys.stdin.isatty():
        raise ConfigError("nobody can be asked whether the cost is right: say --yes, or --estimate to see it")
    return typer.confirm(question)
