"""Every vendor's double with what an adapter needs to talk to it: for tests that treat all vendors alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from qcompute.connections.credentials import variable_of
from qcompute.miner.providers.base import ProviderAdapter, Verb
from qcompute.miner.providers.registry import open_adapter
from tests.doubles.vendor import VendorDouble

Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kit:
    """One vendor. ``table`` is the operator's ``[providers.<key>]``, ``calls`` the requests of each verb.

    ``device`` is the one the tests use: it computes without noise and has at least 12 qubits. ``environment`` is what
    the vendor's own client looks for outside its arguments.
    """

    key: str
    double: Callable[[], VendorDouble]
    table: Callable[[Any], Table]
    secrets: Mapping[str, str]
    calls: Mapping[Verb, str]
    device: str | None = None
    environment: Callable[[Any], dict[str, str]] = field(default=lambda _: {})

    def variables(self, double: VendorDouble) -> dict[str, str]:
        """The environment a daemon needs besides its settings."""
        return {variable_of(name): value for name, value in self.secrets.items()} | self.environment(double)

    def open(self, double: VendorDouble, monkeypatch: pytest.MonkeyPatch) -> ProviderAdapter:
        """The adapter, as the daemon opens it."""
        for name, value in self.variables(double).items():
            monkeypatch.setenv(name, value)
        return open_adapter(self.key, self.table(double))

    def settings_file(self, double: VendorDouble, folder: Path, **changes: Any) -> Path:
        """A TOML file with the provider's table, as an operator writes it; ``changes`` replace or add settings."""
        file = folder / f"{self.key}.toml"
        table = self.table(double) | changes
        lines = [f"[providers.{self.key}]", *(f"{name} = {_toml(value)}" for name, value in table.items())]
        file.write_text("\n".join(lines) + "\n")
        return file


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{json.dumps(name)} = {_toml(below)}" for name, below in value.items())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return "{" + pairs + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return json.dumps(value)


def kit(key: str) -> Kit:
    """The kit of one vendor; imports its double."""
    return import_module(f"tests.doubles.{key}").KIT


VENDORS: Final = ("ibm", "braket", "azure", "ionq", "rest")
"""Every vendor there is a double of."""
