"""The lines of the daemon's log, in either of its formats (`qcompute.miner.logs`)."""

from __future__ import annotations

import json
import os
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from qcompute.miner.settings import LogLevel
from qcompute.protocol import PART_MARK

LOOK_SECONDS: Final = 0.3

_TEXT: Final = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) (?P<level>[A-Z]+) +(?P<logger>[\w.]+) (?P<rest>.*)", re.ASCII
)
_FACTS: Final = re.compile(r" \[(action=[^\]]*)\]$")

_ORDER: Final = {"debug": 1, "info": 2, "warning": 3, "error": 4, "critical": 5}

_LEAST: Final = {LogLevel.TRACE: 0, LogLevel.DEBUG: 1, LogLevel.INFO: 2, LogLevel.WARNING: 3, LogLevel.ERROR: 4}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines; None and empty let all pass. A line of no known format passes only where all do."""

    job: str | None
    actions: frozenset[str]
    level: LogLevel

    def passes(self, record: dict[str, Any]) -> bool:
        """Whether it is one of them."""
        if self.job is not None and str(record.get("execution_id", "")).partition(PART_MARK)[0] != self.job:
            return False
        if self.actions and record.get("action") not in self.actions:
            return False
        return _ORDER.get(str(record.get("level", "")), 0) >= _LEAST[self.level]


def record_of(line: str) -> dict[str, Any]:
    """A line as the JSON format has it; one that is neither has its text as ``message``."""
    line = line.rstrip("\n")
    if line.startswith("{"):
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return found  # pyright: ignore[reportUnknownVariableType] - any JSON object
    match = _TEXT.fullmatch(line)
    if match is None:
        return {"message": line}
    message, facts = match["rest"], dict[str, str]()
    if (told := _FACTS.search(message)) is not None:
        message = message[: told.start()]
        facts = dict(pair.split("=", 1) for pair in told[1].split(" ") if "=" in pair)
    at = match["time"].replace(" ", "T")
    return {"time": f"{at}Z", "level": match["level"].lower(), "logger": match["logger"], "message": message, **facts}


def last_of(lines: Iterable[str], wanted: Wanted, count: int | None) -> Iterable[str]:
    """The lines that pass; of those the last ``count``, None for all."""
    passing = (line for line in lines if line.strip() and wanted.passes(record_of(line)))
    return passing if count is None else deque(passing, maxlen=count)


def followed(path: Path, source: TextIO, limit_seconds: float | None) -> Iterator[str]:
    """Whole lines as they are written, also into a file that takes the place of a rotated one; until the limit."""
    ends_at = None if limit_seconds is None else time.monotonic() + limit_seconds
    begun = ""
    is_over = False
    while True:
        # Once it is known to be replaced it is read to its end: the last lines came before the others.
        for chunk in iter(source.readline, ""):
            begun += chunk
            if begun.endswith("\n"):
                yield begun
                begun = ""
        if is_over:
            with path.open(encoding="utf-8", errors="replace") as fresh:
                left = None if ends_at is None else max(ends_at - time.monotonic(), 0.0)
                yield from followed(path, fresh, left)
            return
        if ends_at is not None and time.monotonic() >= ends_at:
            return
        time.sleep(LOOK_SECONDS)
        is_over = _is_replaced(path, source)


def _is_replaced(path: Path, source: TextIO) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(source.fileno())
    return (now.st_ino, now.st_dev) != (mine.st_ino, mine.st_dev) or now.st_size < source.tell()
