"""Where settings come from: the TOML file, ``.env``, the environment. Each is read into `Given`.

Nothing here knows what a value means. A name nobody knows is a problem that names the nearest known one and says
where it was found; problems are collected, so that one start shows all of them.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, cast

from qcompute.connections.credentials import PREFIX as SECRETS_PREFIX
from qcompute.miner.settings_fields import ENVIRONMENT_PREFIX, ENVIRONMENT_SEPARATOR, Kind, Setting
from qcompute.miner.settings_fields import Path as SettingPath

CONFIG_VARIABLE: Final = "QCOMPUTE_CONFIG"

SWITCH_WORDS: Final[Mapping[str, bool]] = {
    "true": True,
    "1": True,
    "yes": True,
    "false": False,
    "0": False,
    "no": False,
}
"""The only words for a boolean: everything else is an error, so ``off`` or a typing mistake never means "on"."""


class Kin(StrEnum):
    """The kinds of source, weakest first."""

    DEFAULT = "default"
    FILE = "file"
    DOTENV = ".env"
    ENVIRONMENT = "environment"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: the file's path, the variable's or the flag's name."""

    kin: Kin
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kin} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Given:
    """One value somebody gave. Text from ``.env``, the environment and flags is still text."""

    setting: Setting
    path: SettingPath
    value: Any
    origin: Origin


class Catalogue:
    """Every known setting, by the name it has in each source."""

    def __init__(
        self, settings: Iterable[Setting], reference_variables: Mapping[str, str], *, empty_means_off: frozenset[str]
    ) -> None:
        self.settings = list(settings)
        self.by_name = {s.name: s for s in self.settings}
        self._by_flag = {s.flag: s for s in self.settings}
        self._by_variable = {s.variable: s for s in self.settings}
        self.reference_variables = {v: self.by_name[name] for v, name in reference_variables.items()}
        self.empty_means_off = empty_means_off

    @property
    def flags(self) -> list[str]:
        """Every flag of a setting."""
        return list(self._by_flag)

    def flag(self, flag: str) -> tuple[Setting, SettingPath] | None:
        """The setting a flag names; below a table any name will do."""
        return self._find(self._by_flag, flag, ".")

    def variable(self, variable: str) -> tuple[Setting, SettingPath] | None:
        """The setting a ``QCOMPUTE_`` variable names."""
        return self._find(self._by_variable, variable, ENVIRONMENT_SEPARATOR)

    def nearest_variable(self, variable: str) -> str:
        """``; did you mean QCOMPUTE_X?`` or nothing."""
        return nearest(variable, [*self._by_variable, CONFIG_VARIABLE])

    def nearest_key(self, name: str) -> str:
        """``; did you mean axon.port?`` or nothing. Sections count as names."""
        sections = {".".join(s.path[:n]) for s in self.settings for n in range(1, len(s.path))}
        return nearest(name, [*self.by_name, *sections])

    @staticmethod
    def _find(known: Mapping[str, Setting], name: str, separator: str) -> tuple[Setting, SettingPath] | None:
        if setting := known.get(name):
            return setting, setting.path
        for start, setting in known.items():
            if setting.kind is Kind.TABLE and name.startswith(start + separator):
                below = name[len(start) + len(separator) :].lower().split(separator)
                return (setting, (*setting.path, *below)) if all(below) else None
        return None


def from_file(path: Path, catalogue: Catalogue, problems: list[str]) -> list[Given]:
    """The settings of a TOML file; a file that cannot be read is a problem."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"settings file {path}: {error.strerror or type(error).__name__}")
        return []
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"settings file {path}: not TOML: {error}")
        return []
    return list(_from_table(document, (), path, catalogue, problems))


def _from_table(
    table: Mapping[str, Any], prefix: SettingPath, file: Path, catalogue: Catalogue, problems: list[str]
) -> Iterator[Given]:
    for key, value in table.items():
        path = (*prefix, key)
        name = ".".join(path)
        setting = catalogue.by_name.get(name)
        if setting is not None and setting.kind is Kind.TABLE and isinstance(value, dict):
            yield from _leaves(setting, path, cast("dict[str, Any]", value), Origin(Kin.FILE, str(file)))
        elif setting is not None:
            yield Given(setting, path, value, Origin(Kin.FILE, str(file)))
        elif isinstance(value, dict) and any(s.path[: len(path)] == path for s in catalogue.settings):
            yield from _from_table(cast("dict[str, Any]", value), path, file, catalogue, problems)
        else:
            problems.append(f"{name}: unknown key in settings file {file}{catalogue.nearest_key(name)}")


def _leaves(setting: Setting, path: SettingPath, table: Mapping[str, Any], origin: Origin) -> Iterator[Given]:
    """The values below a table one by one, so that a stronger source may replace one of them."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves(setting, (*path, key), cast("dict[str, Any]", value), origin)
        else:
            yield Given(setting, (*path, key), value, origin)


def from_variables(
    variables: Mapping[str, str], kin: Kin, catalogue: Catalogue, problems: list[str]
) -> tuple[list[Given], list[Given]]:
    """The reference's variables and the ``QCOMPUTE_`` ones, apart because the second are stronger.

    An empty variable of the reference counts as not set, for that is how start scripts clear one, unless empty means
    "off" for it.
    """
    reference: list[Given] = []
    for variable, setting in catalogue.reference_variables.items():
        value = variables.get(variable, "").strip()
        if value or (variable in catalogue.empty_means_off and variable in variables):
            reference.append(Given(setting, setting.path, value, Origin(kin, variable)))
    own: list[Given] = []
    for variable, value in variables.items():
        if not is_setting(variable):
            continue
        if found := catalogue.variable(variable):
            own.append(Given(*found, value, Origin(kin, variable)))
        else:
            problems.append(f"{variable}: unknown name in the {kin}{catalogue.nearest_variable(variable)}")
    return reference, own


def is_setting(variable: str) -> bool:
    """Whether a variable is meant for a setting; secrets share the prefix and are none (`qcompute.connections`)."""
    is_ours = variable.startswith(ENVIRONMENT_PREFIX)
    return is_ours and variable != CONFIG_VARIABLE and not variable.startswith(SECRETS_PREFIX)


def parse(given: Given) -> object:
    """What a value stands for; text of scalars stays text and is read by their type.

    Raises:
        ValueError: a boolean is none of the words, or an array is not TOML; the message is for people.
    """
    if given.origin.kin is not Kin.FILE:
        return _parse_text(given.setting, str(given.value))
    if given.setting.kind is Kind.SWITCH and not isinstance(given.value, bool):
        raise ValueError("in a TOML file a switch is true or false, without quotes")
    return given.value


def switch(text: str) -> bool:
    """The boolean a word stands for; raises ValueError for any other text."""
    try:
        return SWITCH_WORDS[text.strip().lower()]
    except KeyError:
        raise ValueError(f"{text!r} is none of {', '.join(SWITCH_WORDS)}") from None


def _parse_text(setting: Setting, text: str) -> object:
    if not text and setting.may_be_none:
        return None
    match setting.kind:
        case Kind.SWITCH:
            return switch(text)
        case Kind.LIST if text.lstrip().startswith("["):
            return _toml_value(text)
        case Kind.LIST:
            return [item.strip() for item in text.split(",") if item.strip()]
        case Kind.TABLE if text.lstrip().startswith(("[", "{")):
            return _toml_value(text)
        case Kind.TABLE | Kind.SCALAR:
            # A table's values stay text too: only the adapter knows whether 007 is a number or a project's name.
            return text


def _toml_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raise ValueError("not a TOML array or inline table") from None


def nearest(name: str, known: Sequence[str]) -> str:
    """``; did you mean X?`` or nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if not close:
        last = name.rpartition(".")[2]
        close = [other for other in known if other.rpartition(".")[2].strip("-") == last.strip("-")][:1]
    return f"; did you mean {close[0]}?" if close else ""
