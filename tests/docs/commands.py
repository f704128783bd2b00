"""The commands of the documentation: its ``sh`` blocks, and which of them can be run on a machine like this.

Every fence says what is in it. What is a command is in a ``sh`` block and is run, unless the block's first line says
why not, with one of `Reason`'s words, for the reader to see as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from tests.docs.pages import ROOT

NOT_RUN: Final = "# not run by the tests: "
PAGES: Final = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    + [page for folder in ("tutorial", "how-to", "explanation") for page in (ROOT / "docs" / folder).glob("*.md")]
)
LABELS: Final = {"sh", "console", "text", "toml", "ini", "json", "sql", "python", "nginx", "http", "yaml"}

_FENCE: Final = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Reason(StrEnum):
    """Why a block cannot be run by a test. A new one is a decision, not a way out."""

    ASKS = "it asks at a terminal"
    ENVIRONMENT = "their own environment says it"
    CI = "CI runs it"
    WALLET = "needs a registered wallet"
    ROOT = "needs root"
    NETWORK = "needs the network"
    MACHINE = "needs a second machine"
    DATABASE = "needs your database"
    DOCKER = "needs docker"


@dataclass(frozen=True, slots=True)
class Block:
    """One fence of a page."""

    page: Path
    line: int
    label: str
    title: str
    text: str

    @property
    def name(self) -> str:
        """Where it is."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def reason(self) -> str | None:
        """Why it is not run, as the page says it."""
        first = self.text.partition("\n")[0]
        return first.removeprefix(NOT_RUN) if first.startswith(NOT_RUN) else None


def blocks(page: Path) -> Iterator[Block]:
    """The fences of a page, in order, without the indent of the list they stand in."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        indent, info, inside = found.groups()
        label, _, title = info.partition(" ")
        body = re.sub(rf"^{indent}", "", inside, flags=re.MULTILINE)
        yield Block(page, text.count("\n", 0, found.start()) + 1, label, title, body)
