"""Connections as they are written down: a name, a provider, its settings, names of credentials. Nothing secret.

They are in ``connections.toml`` in the miner's folder and not in its settings file: a program writes them, a running
daemon reads them again, and a miner that is set up by variables has no settings file (ADR 0019). ::

    [connections.ibm-prod]
    provider = "ibm"

    [connections.ibm-prod.settings]      # as in [providers.ibm]
    token = "ibm_prod_token"             # the name of a credential
    instance = "crn:v1:…"

    [connections.ibm-prod.budget]        # as [budget]; without it [budget] holds for this account too
    per_day = "20"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qcompute.errors import ConfigError
from qcompute.faults import first_fault
from qcompute.files import locked, write_private
from qcompute.miner.limits import BudgetSettings

FILE: Final = "connections.toml"
NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")

_HEAD: Final = "# Written by `qcompute connections`, which keeps no comments. Nothing in here is secret.\n\n"


class Definition(BaseModel):
    """One connection. ``settings`` is the provider's table, ``budget`` its own budget's, checked at use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.:-]*$")
    settings: dict[str, Any] = Field(default_factory=dict[str, Any])
    budget: dict[str, Any] | None = None

    def own_budget(self, name: str) -> BudgetSettings | None:
        """The budget of the connection ``name``; None when it has none. Raises `ConfigError` when it is not one."""
        if self.budget is None:
            return None
        try:
            return BudgetSettings.model_validate(self.budget)
        except ValidationError as error:
            raise ConfigError(first_fault(error, f"connections.{name}.budget")) from None


def checked_name(name: str) -> str:
    """``name`` when a connection can have it. Raises `ConfigError` when not."""
    if not NAME.fullmatch(name):
        raise ConfigError("a connection's name is up to 40 small letters, digits and -, a letter first")
    return name


@dataclass(frozen=True, slots=True)
class Definitions:
    """The file of definitions; each method reads it anew, so one object may be kept."""

    path: Path

    def all(self) -> dict[str, Definition]:
        """Every connection by name, sorted; none without the file.

        Raises:
            ConfigError: the file cannot be read, or something in it is not as it should be.
        """
        try:
            document = tomllib.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"connections file {self.path} cannot be read ({type(error).__name__})") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"connections file {self.path}: not TOML: {error}") from None
        return dict(sorted(self._checked(document)))

    def get(self, name: str) -> Definition:
        """One connection.

        Raises:
            ConfigError: see `all`; or there is none of this name.
        """
        known = self.all()
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "there are none yet: qcompute connections add"
            raise ConfigError(f"there is no connection {name!r}; {there}")
        return known[name]

    def add(self, name: str, definition: Definition) -> None:
        """Write a new connection down. Raises `ConfigError` when the name is taken, or the file cannot be written."""

        def with_it(known: dict[str, Definition]) -> dict[str, Definition]:
            if name in known:
                raise ConfigError(f"there is a connection {name!r} already; remove it first, or take another name")
            return {**known, checked_name(name): definition}

        self._change(with_it)

    def remove(self, name: str) -> Definition:
        """Take a connection out of the file, and return what it was. Raises as `get`."""
        gone: list[Definition] = []

        def without_it(known: dict[str, Definition]) -> dict[str, Definition]:
            gone.append(self.get(name))
            return {one: definition for one, definition in known.items() if one != name}

        self._change(without_it)
        return gone[0]

    def _change(self, change: Callable[[dict[str, Definition]], dict[str, Definition]]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path.with_name(f"{self.path.name}.lock")):
                after = change(self.all())
                tables = {name: one.model_dump(mode="json", exclude_none=True) for name, one in sorted(after.items())}
                write_private(self.path, (_HEAD + tomli_w.dumps({"connections": tables})).encode())
        except OSError as error:
            raise ConfigError(f"connections file {self.path} cannot be written ({error.strerror})") from None

    def _checked(self, document: Mapping[str, Any]) -> Iterator[tuple[str, Definition]]:
        if other := [key for key in document if key != "connections"]:
            raise ConfigError(f"connections file {self.path}: {other[0]} is unknown; write [connections.NAME] tables")
        tables = document.get("connections", {})
        if not isinstance(tables, dict):
            raise ConfigError(f"connections file {self.path}: write [connections.NAME] tables")
        for name, table in cast("dict[str, Any]", tables).items():
            try:
                yield checked_name(name), Definition.model_validate(table)
            except ValidationError as error:
                fault = first_fault(error, f"connections.{name}")
                raise ConfigError(f"connections file {self.path}: {fault}") from None


CHOICE: Final = "connection"
"""The file that holds the name of the connection in use, as `qcompute connections use` left it."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which connection new jobs go to, over restarts."""

    path: Path

    def read(self) -> str | None:
        """The name; None: none was chosen, and the settings say it.

        Raises:
            ConfigError: the file cannot be read, or holds no name.
        """
        try:
            name = self.path.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.path} cannot be read ({type(error).__name__})") from None
        return checked_name(name) if name else None

    def write(self, name: str | None) -> None:
        """Keep the choice; None goes back to the settings. Raises `ConfigError` when it cannot be kept."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_private(self.path, f"{name or ''}\n".encode())
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written ({error.strerror})") from None
