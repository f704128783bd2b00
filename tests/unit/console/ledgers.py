"""Ledgers for commands that read them, and one command's answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from qcompute.console.__main__ import main
from qcompute.ledger import open_ledger
from qcompute.ledger.contract import Ledger
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import State
from qcompute.testing.ledger_records import brought_to


def fill_ledger(settings: LedgerSettings, fill: Callable[[Ledger], Awaitable[object]]) -> None:
    """Make a ledger that ``fill`` puts something into, and close it again."""

    async def make() -> None:
        ledger = open_ledger(settings)
        try:
            await fill(ledger)
        finally:
            await ledger.close()

    asyncio.run(make())


def filled(path: Path, fill: Callable[[Ledger], Awaitable[object]]) -> Path:
    """Such a ledger in a file."""
    fill_ledger(LedgerSettings(path=path), fill)
    return path


def with_held(path: Path, *ids: str) -> Path:
    """A ledger with held jobs."""

    async def fill(ledger: Ledger) -> None:
        for name in ids:
            await brought_to(ledger, name, State.HELD)

    return filled(path, fill)


class Command:
    """Runs ``qcompute`` in this process, on one ledger; ``flags`` say more of where it is."""

    def __init__(self, ledger: Path, capsys: pytest.CaptureFixture[str], flags: Sequence[str] = ()) -> None:
        self.flags = ["--ledger.path", str(ledger), *flags]
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        code = main([*arguments, *self.flags])
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def json(self, *arguments: str) -> dict[str, Any]:
        """The one document of a command that must work."""
        code, out, err = self(*arguments, "--json")
        assert (code, err) == (0, ""), err
        return json.loads(out)
