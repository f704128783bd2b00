"""The settings file of a new miner, from answers: what is asked, how an answer is checked, how the file is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import tomli_w
from pydantic import ValidationError, create_model

from qcompute.connections.operations import needs_connection
from qcompute.errors import ConfigError
from qcompute.faults import OWN_WORDS
from qcompute.files import write_private
from qcompute.miner.settings_load import catalogue
from qcompute.miner.settings_sources import Given, Kin, Origin, parse

HEAD: Final = """\
# Written by `qcompute init`. Nothing in here is secret; credentials are kept by `qcompute connections`.
# `qcompute config show --config THIS_FILE` says what each setting is and where it comes from.

"""


@dataclass(frozen=True, slots=True)
class Question:
    """One setting that is asked for. ``default`` None: it must be answered; empty text leaves the setting out."""

    name: str
    words: str
    default: str | None


PROVIDER: Final = "provider"

QUESTIONS: Final = (
    Question("wallet.name", "name of the wallet (its coldkey)", "default"),
    Question("wallet.hotkey", "hotkey of that wallet that is registered on the subnet", "default"),
    Question("wallet.path", "folder of the wallets", "~/.bittensor/wallets"),
    Question("netuid", "subnet", "48"),
    Question("subtensor.network", "network: finney, test, or a ws:// address", "finney"),
    Question("axon.port", "port validators reach this machine at", "8091"),
    Question("axon.external_ip", "this machine's public address (empty: not published)", ""),
    Question("jobserver.url", "address of the job server", None),
    Question("jobserver.tensorauth_url", "address of the token service", None),
    Question(PROVIDER, "provider that runs the jobs (`qcompute providers` lists them)", "aer"),
    Question("budget.per_day", "most to spend in a day in USD (empty: no limit)", ""),
)


def answered(question: Question, text: str) -> Any:  # noqa: ANN401 - as TOML has it
    """What an answer means for the file.

    Raises:
        ConfigError: the setting cannot have this value; says why.
    """
    setting = catalogue().by_name[question.name]
    value = value_of(Given(setting, setting.path, text.strip(), Origin(Kin.FLAG, setting.flag)))
    if question.name == PROVIDER:
        needs_connection(value)  # asked now, because an unknown one would be told after the last question
    return value


def value_of(given: Given) -> Any:  # noqa: ANN401 - as TOML has it
    """A given value as the file has it; a table's is left as it is, because only its provider knows it.

    Raises:
        ConfigError: the setting cannot have this value; says why.
    """
    setting, name = given.setting, ".".join(given.path)
    try:
        value = parse(given)
        if given.path != setting.path:
            return value
        model = create_model("One", value=(setting.annotation, setting.info))
        return model.model_validate({"value": value}).model_dump(mode="json")["value"]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ConfigError(f"{name}: {first['msg'].removeprefix(OWN_WORDS)}") from None
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def document(answers: Mapping[str, Any]) -> str:
    """The file's text; ``answers`` are by the settings' names, those of plain words before the tables."""
    tables: dict[str, Any] = {}
    for name in sorted(answers, key=lambda one: one.count(".")):
        *path, last = name.split(".")
        below = tables
        for part in path:
            below = below.setdefault(part, {})
        below[last] = answers[name]
    return HEAD + tomli_w.dumps(tables)


def require_room(file: Path, *, force: bool) -> None:
    """Look before anything is asked whether the answers can be kept.

    Raises:
        ConfigError: there is a file already and ``force`` is not given, or it could not be written.
    """
    if file.is_dir():
        raise ConfigError(f"{file} is a folder: name the file to be written")
    if file.exists() and not force:
        raise ConfigError(f"{file} is there already: name another, or replace it with --force")
    folder = next(one for one in file.absolute().parents if one.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{file} cannot be written: no permission for the folder {folder}; name a file elsewhere")


def write(file: Path, text: str, *, force: bool) -> None:
    """Put the file there, for its owner alone.

    Raises:
        ConfigError: as `require_room`, or it cannot be written after all.
    """
    require_room(file, force=force)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_private(file, text.encode())
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror or type(error).__name__}") from None
