"""How log lines look and where they go: standard error, as text for people or as JSON for collectors.

Every record of ours has ``action``, and ``execution_id`` when it is about a job; both are shown in both formats.
Times are UTC.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

from qcompute.miner.settings import LogFormat, LoggingSettings, LogLevel

OUR_LOGGERS: Final = ("qcompute", "neurons")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up(settings: LoggingSettings) -> None:
    """Make standard error the only place logs go; a second call replaces what the first did.

    Libraries log from warning on, from info on at ``debug``, and everything at ``trace``.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.format is LogFormat.JSON else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    ours, libraries = _levels(settings.level)
    root.setLevel(libraries)
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(ours)
    logging.captureWarnings(capture=True)


def _levels(level: LogLevel) -> tuple[int, int]:
    match level:
        case LogLevel.TRACE:
            return logging.DEBUG, logging.DEBUG
        case LogLevel.DEBUG:
            return logging.DEBUG, logging.INFO
        case LogLevel.INFO:
            return logging.INFO, logging.WARNING
        case LogLevel.WARNING:
            return logging.WARNING, logging.WARNING
        case LogLevel.ERROR:
            return logging.ERROR, logging.ERROR


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a record carries besides its message, without what is none."""
    return {k: v for k, v in vars(record).items() if k not in _STANDARD and v is not None}


class TextLines(logging.Formatter):
    """``2026-11-21 03:48:11.123 INFO  qcompute.miner.road accepted -> ready [action=move execution_id=…]``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it when there is one."""
        facts = _one_line(" ".join(f"{name}={value}" for name, value in facts_of(record).items()))
        line = f"{_time(record, ' ')} {record.levelname:<8} {record.name} {_one_line(record.getMessage())}"
        return _with_traceback(self, record, f"{line} [{facts}]" if facts else line)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the facts, and ``traceback`` when there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; values that JSON cannot hold are written as text."""
        document = {
            "time": _time(record, "T") + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **facts_of(record),
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False, default=str)


def _time(record: logging.LogRecord, between: str) -> str:
    return datetime.fromtimestamp(record.created, UTC).replace(tzinfo=None).isoformat(between, "milliseconds")


def _one_line(text: str) -> str:
    # A message may quote what a stranger sent: it must not be able to write a log line of its own.
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _with_traceback(formatter: logging.Formatter, record: logging.LogRecord, line: str) -> str:
    return f"{line}\n{formatter.formatException(record.exc_info)}" if record.exc_info else line
