"""Counts as a histogram of bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from qcompute.console.output import Output, Style

_MOST_COUNTS: Final = 16


def histogram(counts: Mapping[str, int], output: Output) -> None:
    """The most frequent results, each with a bar; bit 0 is rightmost."""
    if not counts:
        output.line("no counts", Style.FAINT)
        return
    total, most = sum(counts.values()), max(counts.values())
    rows = [
        (bits, count, f"{count / total:.1%}", "█" * max(round(30 * count / most), 1))
        for bits, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:_MOST_COUNTS]
    ]
    output.table(("RESULT", "SHOTS", "SHARE", ""), rows, empty="no counts")
    if len(counts) > _MOST_COUNTS:
        output.line(f"and {len(counts) - _MOST_COUNTS} more results", Style.FAINT)
