"""What a command says on standard output: text for people, or with ``--json`` one document for programs.

Colours are used on a terminal only, and not where ``NO_COLOR`` is set. What is not a terminal gets lines as long as
they are, so that ``grep`` and ``cut`` find whole ids; a terminal narrower than 80 columns gets tables as lists.
rich is imported when something is shown, not before.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console

NARROW: Final = 80
"""Columns below which a wide table is shown as a list."""

_FEW_COLUMNS: Final = 3
"""A table of so few columns is shown as one on any terminal."""

_UNBOUNDED: Final = 100_000
"""Columns of what is not a terminal."""

NOTHING: Final = "-"


class Style(StrEnum):
    """How a line is shown on a terminal that has colours."""

    PLAIN = ""
    GOOD = "green"
    WARNING = "yellow"
    BAD = "bold red"
    FAINT = "dim"
    HEADING = "bold"


class Output:
    """Standard output of one command."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """rich's, for what has no method here."""
        if self._console is None:
            from rich.console import Console  # noqa: PLC0415 - takes a while, and help and JSON do without

            width = None if sys.stdout.isatty() else _UNBOUNDED
            self._console = Console(
                width=width, highlight=False, markup=False, emoji=False, soft_wrap=width is not None
            )
        return self._console

    @property
    def is_narrow(self) -> bool:
        """Whether a wide table would not fit."""
        return self.console.width < NARROW

    def document(self, document: Mapping[str, Any]) -> None:
        """The one JSON document of a command."""
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=_plain) + "\n")

    def record(self, record: Mapping[str, Any]) -> None:
        """One JSON document on a line of its own, at once: of a command that goes on and on."""
        sys.stdout.write(json.dumps(record, ensure_ascii=False, default=_plain) + "\n")
        sys.stdout.flush()

    def answer(self, document: Mapping[str, Any], text: str) -> None:
        """What there is to say, as the one document for programs or as one line for people."""
        if self.as_json:
            self.document(document)
        else:
            self.line(text)

    def line(self, text: str = "", style: Style = Style.PLAIN) -> None:
        """One line for people."""
        self.console.print(readable(text), style=style.value or None)

    def command(self, text: str, style: Style = Style.PLAIN) -> None:
        """A command to be pasted, on a line of its own that nothing breaks: its first half alone would be another."""
        self.console.print(f"  {readable(text)}", style=style.value or None, soft_wrap=True)

    def facts(self, facts: Mapping[str, object], *, title: str | None = None) -> None:
        """Names and what they are, below one another. What is None is left out."""
        from rich.table import Table  # noqa: PLC0415 - see `console`

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style=Style.FAINT.value, no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in facts.items():
            if value is not None:
                grid.add_row(name, shown(value))
        if title is not None:
            self.line(title, Style.HEADING)
        self.console.print(grid)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
        """Rows below their columns' names; ``empty`` is said when there are none."""
        if not rows:
            self.line(empty, Style.FAINT)
        elif self.is_narrow and len(columns) > _FEW_COLUMNS:
            for row in rows:
                self.facts({name: cell for name, cell in zip(columns, row, strict=True) if cell not in (None, "")})
                self.line()
        else:
            self._wide(columns, rows)

    def _wide(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        from rich.table import Table  # noqa: PLC0415 - see `console`

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=Style.HEADING.value)
        for name in columns:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(shown(cell) for cell in row))
        self.console.print(table)

    def panel(self, title: str, lines: Sequence[str], style: Style = Style.PLAIN) -> None:
        """Words that belong together, in a frame on a terminal."""
        if not self.console.is_terminal:
            self.line(title, Style.HEADING)
            for line in lines:
                self.line(f"  {line}" if line else "")
            return
        from rich.panel import Panel  # noqa: PLC0415 - see `console`
        from rich.text import Text  # noqa: PLC0415 - see `console`

        text = Text("\n".join(readable(line) for line in lines))
        self.console.print(Panel(text, title=Text(title), title_align="left", border_style=style.value or "none"))


def readable(text: str) -> str:
    """Text whose every character can be seen: a vendor's words must not move the cursor or colour the screen."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else " " if sign in "\n\r\t" else "\N{REPLACEMENT CHARACTER}" for sign in text
    )


def shown(value: object) -> str:
    """A value in a cell: times in UTC to the second, durations in the two largest units."""
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case timedelta():
            return duration_text(value.total_seconds())
        case _:
            return readable(str(value))


def duration_text(seconds: float) -> str:
    """``340 ms``, ``2.1 s``, ``4 min 10 s``, ``3 h 5 min``, ``2 d 4 h``."""
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    if seconds < 1:
        return f"{sign}{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{sign}{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, below, lesser in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            many, rest = divmod(whole, size)
            return f"{sign}{many} {unit} {rest // lesser} {below}"
    return f"{sign}{whole} s"


def _plain(value: object) -> object:
    """What JSON has no word for."""
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
        case _:
            return str(value)
