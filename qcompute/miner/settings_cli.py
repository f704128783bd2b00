"""The command line of ``neurons/miner.py``: help, version, ``--check-config``, and what a wrong setting looks like."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from pydantic import BaseModel

from qcompute import __version__
from qcompute.connections.credentials import Secret
from qcompute.errors import ConfigError
from qcompute.miner import logs
from qcompute.miner.settings import Settings
from qcompute.miner.settings_fields import Kind, Setting
from qcompute.miner.settings_fields import Path as SettingPath
from qcompute.miner.settings_flags import CommandLine
from qcompute.miner.settings_load import Loaded, catalogue, load
from qcompute.miner.settings_show import shown
from qcompute.miner.settings_sources import Kin, Origin

EXIT_OK: Final = 0
EXIT_CONFIG: Final = 2

_log = logging.getLogger(__name__)

_USAGE: Final = """\
usage: python neurons/miner.py [--section.name value]...

Runs a miner of the Bittensor quantum-compute subnet until SIGTERM or SIGINT.

  --config FILE    read settings from a TOML file first
  --check-config   print every setting and where it came from, then end; 2 when something is wrong
  --version        print the version, then end
  --help           print this, then end

A setting comes from, the later the stronger: its default, the TOML file, the variables of the reference miner
(JOB_SERVER_URL ... in .env or the environment), QCOMPUTE_SECTION__NAME variables, flags.
`make demo` shows the whole daemon at work without any account.
"""


def command_line(arguments: Sequence[str], start: Callable[[Settings], int]) -> int:
    """Do what the arguments ask for and return the exit code: ``start``'s own, 0, or 2 when a setting is wrong.

    Before ``start`` the log is set up, and the names in ``.env`` that are not ours go into the environment.
    """
    problems: list[str] = []
    command = CommandLine(arguments, catalogue(), problems).read()
    if command.help or command.version:
        sys.stdout.write(f"qcompute {__version__}\n" if command.version and not command.help else help_text())
        return EXIT_OK
    try:
        loaded = load(command, os.environ, Path.cwd(), problems)
        if command.check_config:
            sys.stdout.write(report(loaded))
            return EXIT_OK
        return _run(loaded, start)
    except ConfigError as wrong:
        sys.stderr.write("".join(f"qcompute: {line}\n" for line in wrong.message.splitlines()))
        return EXIT_CONFIG


def _run(loaded: Loaded, start: Callable[[Settings], int]) -> int:
    logs.set_up(loaded.settings.logging)
    for warning in loaded.warnings:
        _log.warning("%s", warning, extra={"action": "settings"})
    for name, value in loaded.foreign.items():
        os.environ.setdefault(name, value)
    return start(loaded.settings)


def help_text() -> str:
    """The usage and every setting: flag, type, default, meaning."""
    lines = [_USAGE]
    section = ""
    for setting in catalogue().settings:
        if len(setting.path) > 1 and setting.path[0] != section:
            section = setting.path[0]
            lines.append(f"\n[{section}]")
        lines.append(f"  {_flag_help(setting)}")
        lines.extend(textwrap.wrap(setting.documentation, 100, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(lines) + "\n"


def _flag_help(setting: Setting) -> str:
    flag = f"{setting.flag}.NAME.KEY" if setting.kind is Kind.TABLE else setting.flag
    return f"{flag}  ({setting.type_text}; {default_text(setting)})"


def default_text(setting: Setting) -> str:
    """``default 8091`` or ``required``."""
    if setting.info.is_required():
        return "required"
    if setting.info.annotation is Secret:
        return f'default "{setting.info.default}"'  # a name, not a secret
    return f"default {shown(setting.path, setting.info.get_default(call_default_factory=True))}"


def report(loaded: Loaded) -> str:
    """Each setting with its value and its source, secrets masked; then the warnings."""
    rows = rows_of(loaded)
    name_width = max(len(name) for name, _, _ in rows)
    value_width = min(max(len(value) for _, value, _ in rows), 60)
    lines = [f"{name:<{name_width}}  {value:<{value_width}}  {origin}" for name, value, origin in rows]
    lines += [f"warning: {text}" for text in loaded.warnings]
    return "\n".join(lines) + "\n"


def rows_of(loaded: Loaded) -> list[tuple[str, str, str]]:
    """The name, value and source of each setting; secrets masked."""
    return _rows(loaded.settings, (), loaded.origins)


def _rows(value: object, path: SettingPath, origins: Mapping[SettingPath, Origin]) -> list[tuple[str, str, str]]:
    if isinstance(value, BaseModel):
        names = type(value).model_fields
        return [row for name in names for row in _rows(getattr(value, name), (*path, name), origins)]
    if isinstance(value, dict) and value:
        table = cast("dict[str, object]", value)
        return [row for key, below in table.items() for row in _rows(below, (*path, key), origins)]
    origin = next((origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in origins), Origin(Kin.DEFAULT))
    return [(".".join(path), shown(path, cast("object", value)), str(origin))]
