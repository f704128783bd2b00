"""The command line: ``--section.name value``, ``--section.name=value``, switches without a value.

Every flag that operators of the reference miner use is taken: the ones that mean something here as settings, the
others with a warning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from qcompute.miner.settings_fields import Kind, Setting
from qcompute.miner.settings_fields import Path as SettingPath
from qcompute.miner.settings_sources import SWITCH_WORDS, Catalogue, Given, Kin, Origin, nearest, switch

CONFIG_FLAG: Final = "--config"

_ACTIONS: Final = ("--help", "-h", "--version", "--check-config")

LEVEL_FLAGS: Final = {"--logging.trace": "trace", "--logging.debug": "debug", "--logging.info": "info"}
"""Bittensor's switches for the log level."""

IGNORED_FLAGS: Final[Mapping[str, bool]] = {
    "--neuron.device": True,
    "--neuron.epoch_length": True,
    "--neuron.events_retention_size": True,
    "--neuron.dont_save_events": False,
    "--wandb.off": False,
    "--wandb.offline": False,
    "--wandb.project_name": True,
    "--wandb.entity": True,
    "--wandb.notes": True,
    "--axon.max_workers": True,
    "--logging.record_log": False,
    "--logging.logging_dir": True,
    "--logging.enable_third_party_loggers": False,
    "--no_version_checking": False,
    "--no_prompt": False,
    "--strict": False,
}
"""Flags of the reference miner and of bittensor 9 that mean nothing here, and whether a value follows. They are in
the start scripts of running operators, so they are taken with a warning."""

_HINTS: Final = {
    "--mock": "there is no --mock; say --provider mock, or see the whole daemon at work with `make demo`",
    "--subtensor._mock": "there is no mock chain; say --chain.metagraph_file FILE, or run `make demo`",
}


@dataclass(frozen=True, slots=True)
class Command:
    """The command line, understood. ``ignored`` are known flags without a meaning here."""

    given: list[Given]
    ignored: list[str]
    config: str | None
    check_config: bool
    help: bool
    version: bool


class CommandLine:
    """Reads the arguments once, from left to right."""

    def __init__(self, arguments: Sequence[str], catalogue: Catalogue, problems: list[str]) -> None:
        self._rest = list(arguments)
        self._catalogue = catalogue
        self._problems = problems
        self._given: list[Given] = []
        self._ignored: list[str] = []
        self._config: str | None = None
        self._asked: set[str] = set()

    def read(self) -> Command:
        """All of it; problems are appended to the list given at the start."""
        while self._rest:
            argument = self._rest.pop(0)
            flag, equals, inline = argument.partition("=")
            if not flag.startswith("-") or flag == "--":
                self._problems.append(f"{argument}: not a flag; every setting is given as --section.name value")
                continue
            self._read_flag(flag, inline if equals else None)
        asked = self._asked
        return Command(
            self._given,
            self._ignored,
            self._config,
            check_config="--check-config" in asked,
            help=bool(asked & {"--help", "-h"}),
            version="--version" in asked,
        )

    def _read_flag(self, flag: str, inline: str | None) -> None:
        if flag in _ACTIONS:
            self._asked.add(flag)
        elif flag == CONFIG_FLAG:
            self._config = self._value(flag, inline)
        elif flag in LEVEL_FLAGS:
            self._level(flag, inline)
        elif found := self._catalogue.flag(flag):
            self._setting(flag, inline, *found)
        elif flag in IGNORED_FLAGS or flag.startswith("--wandb."):
            self._ignored.append(flag)
            if inline is None and IGNORED_FLAGS.get(flag, True) and self._next_is_value():
                self._rest.pop(0)
        else:
            self._problems.append(f"{flag}: unknown flag{self._nearest(flag)}")
            if inline is None and self._next_is_value():
                self._rest.pop(0)

    def _setting(self, flag: str, inline: str | None, setting: Setting, path: SettingPath) -> None:
        value: str | None
        match setting.kind:
            case Kind.SWITCH:
                value = inline
                if inline is None and self._rest and self._rest[0].lower() in SWITCH_WORDS:
                    value = self._rest.pop(0)
                value = "true" if value is None else value
            case Kind.SCALAR | Kind.LIST | Kind.TABLE:
                value = self._value(flag, inline)
            case _:
                assert_never(setting.kind)
        if value is not None:
            self._given.append(Given(setting, path, value, Origin(Kin.FLAG, flag)))

    def _level(self, flag: str, inline: str | None) -> None:
        try:
            on = switch("true" if inline is None else inline)
        except ValueError as error:
            self._problems.append(f"{flag}: {error}")
            return
        if on:
            setting = self._catalogue.by_name["logging.level"]
            self._given.append(Given(setting, setting.path, LEVEL_FLAGS[flag], Origin(Kin.FLAG, flag)))

    def _value(self, flag: str, inline: str | None) -> str | None:
        if inline is not None:
            return inline
        if self._next_is_value():
            return self._rest.pop(0)
        self._problems.append(f"{flag}: needs a value: {flag} VALUE or {flag}=VALUE")
        return None

    def _next_is_value(self) -> bool:
        return bool(self._rest) and not self._rest[0].startswith("--")

    def _nearest(self, flag: str) -> str:
        if hint := _HINTS.get(flag):
            return f"; {hint}"
        return nearest(flag, [*self._catalogue.flags, *IGNORED_FLAGS, *LEVEL_FLAGS, CONFIG_FLAG, *_ACTIONS])
