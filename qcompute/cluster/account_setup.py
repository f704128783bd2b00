"""What an account of a fleet is opened with, beside its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class AccountSetup:
    """One account: ``arguments`` are those its nodes were built with.

    ``settings`` is the adapter's own table, which wins over what follows from the arguments; ``directory`` is where
    the account's files lie, and must not be another account's.
    """

    name: str
    directory: Path
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
