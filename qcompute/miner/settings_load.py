"""Fills the settings object: defaults < TOML file < reference's variables < ``QCOMPUTE_`` variables < flags.

Hand-made over pydantic because three things are needed that its settings package does not give: an error for a
misspelt section name, the source of every value, and all problems in one message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from qcompute.errors import ConfigError
from qcompute.faults import in_words
from qcompute.jobserver.settings import ADDRESS
from qcompute.miner.settings import EMPTY_MEANS_OFF, LEDGER_FILE, REFERENCE_VARIABLES, Settings
from qcompute.miner.settings_fields import Path as SettingPath
from qcompute.miner.settings_fields import settings_of
from qcompute.miner.settings_flags import Command, CommandLine
from qcompute.miner.settings_show import shown
from qcompute.miner.settings_sources import (
    CONFIG_VARIABLE,
    Catalogue,
    Given,
    Kin,
    Origin,
    from_file,
    from_variables,
    is_setting,
    parse,
)

_LEDGER_PATH: Final = ("ledger", "path")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, where each value came from (absent: it is the default), and what the operator should know.

    ``foreign`` are names of ``.env`` that are no settings, secrets among them. The reference puts the whole file into
    its environment, where its adapters and bittensor look for keys; whoever starts the daemon does the same with these.
    """

    settings: Settings
    origins: Mapping[SettingPath, Origin]
    warnings: Sequence[str]
    foreign: Mapping[str, str]


@cache
def catalogue() -> Catalogue:
    """Every setting of the daemon."""
    return Catalogue(settings_of(Settings), REFERENCE_VARIABLES, empty_means_off=EMPTY_MEANS_OFF)


def load(command: Command, environ: Mapping[str, str], directory: Path, problems: list[str]) -> Loaded:
    """Put the sources together. ``directory`` is where ``.env`` is looked for; ``problems`` are those of the flags.

    Raises:
        ConfigError: anything is unknown, missing or wrong; the message has one line for each problem.
    """
    known = catalogue()
    dotenv = _dotenv(directory / ".env")
    given: list[Given] = []
    config = command.config or environ.get(CONFIG_VARIABLE) or dotenv.get(CONFIG_VARIABLE)
    if config:
        given += from_file(Path(config).expanduser(), known, problems)
    weak_file, strong_file = from_variables(dotenv, Kin.DOTENV, known, problems)
    weak, strong = from_variables(environ, Kin.ENVIRONMENT, known, problems)
    given += [*weak_file, *weak, *strong_file, *strong, *command.given]
    values, origins = _merge(given, problems)
    settings = _validated(values, origins, problems)
    if settings is None or problems:
        raise ConfigError("\n".join(problems))
    return Loaded(
        _with_ledger_beside(settings),
        {_LEDGER_PATH: Origin(Kin.DEFAULT, "(in the folder of neuron.name)"), **origins},
        _warnings(command),
        {k: v for k, v in dotenv.items() if not (k in REFERENCE_VARIABLES or k == CONFIG_VARIABLE or is_setting(k))},
    )


def load_from(arguments: Sequence[str], environ: Mapping[str, str], directory: Path) -> Loaded:
    """Read everything from scratch; see `load`."""
    problems: list[str] = []
    command = CommandLine(arguments, catalogue(), problems).read()
    return load(command, environ, directory, problems)


def _dotenv(file: Path) -> dict[str, str]:
    return {name: value for name, value in dotenv_values(file).items() if value is not None} if file.is_file() else {}


def _merge(given: Sequence[Given], problems: list[str]) -> tuple[dict[str, Any], dict[SettingPath, Origin]]:
    """Later values replace earlier ones."""
    values: dict[str, Any] = {}
    origins: dict[SettingPath, Origin] = {}
    for one in given:
        try:
            value = parse(one)
        except ValueError as error:
            problems.append(f"{'.'.join(one.path)}: {error} (from {one.origin})")
            continue
        table = values
        for name in one.path[:-1]:
            below: object = table.setdefault(name, {})
            if not isinstance(below, dict):
                below = table[name] = {}
            table = cast("dict[str, Any]", below)
        table[one.path[-1]] = value
        origins[one.path] = one.origin
    return values, origins


def _validated(values: dict[str, Any], origins: Mapping[SettingPath, Origin], problems: list[str]) -> Settings | None:
    # A section that is missing as a whole must still report each of its required settings.
    for section in {s.path[0] for s in catalogue().settings if len(s.path) > 1}:
        values.setdefault(section, {})
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems.extend(_problem(details, origins) for details in error.errors(include_url=False))
        return None


def _problem(details: ErrorDetails, origins: Mapping[SettingPath, Origin]) -> str:
    path = tuple(str(part) for part in details["loc"])
    origin = next((origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in origins), None)
    if details["type"] == "missing" and origin is None:
        return _missing(".".join(path))
    source = f" (from {origin})" if origin else ""
    if details["type"] == ADDRESS:
        return f"{'.'.join(path)}: {details['msg']}{source}"
    # What a provider's table holds is not known here, so a value at the wrong place in it may be a key. A whole table
    # says nothing of what is wrong with it or missing in it.
    is_table = isinstance(cast("object", details["input"]), Mapping)
    is_shown = path[0] != "providers" and not is_table
    value = f", not {shown(path, details['input'])}" if is_shown else ""
    return f"{'.'.join(path)}: {in_words(details)}{value}{source}"


def _missing(name: str) -> str:
    variable = next((v for v, setting in REFERENCE_VARIABLES.items() if setting == name), None)
    setting = catalogue().by_name[name]
    return (
        f"{name} is missing: set {variable or setting.variable} in the environment or in .env, or pass {setting.flag} "
        "(to try the daemon without it: make demo)"
    )


def _with_ledger_beside(settings: Settings) -> Settings:
    """The ledger lies in the miner's own folder unless it was put elsewhere."""
    if _LEDGER_PATH[-1] in settings.ledger.model_fields_set:
        return settings
    ledger = settings.ledger.model_copy(update={"path": settings.neuron.directory / LEDGER_FILE})
    return settings.model_copy(update={"ledger": ledger})


def _warnings(command: Command) -> list[str]:
    if not command.ignored:
        return []
    return [f"flags of the reference miner that do nothing here: {' '.join(dict.fromkeys(command.ignored))}"]
