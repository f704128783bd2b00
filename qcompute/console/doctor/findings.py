"""What the doctor finds: one line about each subject, and for each failing one what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How good a finding is."""

    OK = "ok"
    UNKNOWN = "unknown"
    """It cannot be told from here; the fix says how to find out."""
    WARNING = "warning"
    """The daemon runs, but not for long, or not for everybody."""
    FAILED = "failed"
    """The daemon does not start, or earns nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One subject, such as ``disk``; ``words`` say what was seen, ``fix`` what to do (empty when nothing is to be)."""

    subject: str
    level: Level
    words: str
    fix: str = ""

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def ok(subject: str, words: str) -> Finding:
    """All is well."""
    return Finding(subject, Level.OK, words)


def unknown(subject: str, words: str, fix: str) -> Finding:
    """It cannot be told from here."""
    return Finding(subject, Level.UNKNOWN, words, fix)


def warning(subject: str, words: str, fix: str) -> Finding:
    """It will do for now."""
    return Finding(subject, Level.WARNING, words, fix)


def failed(subject: str, words: str, fix: str) -> Finding:
    """It will not do."""
    return Finding(subject, Level.FAILED, words, fix)


def is_healthy(findings: Sequence[Finding]) -> bool:
    """Whether nothing failed; warnings and what cannot be told do not count."""
    return all(finding.level is not Level.FAILED for finding in findings)
