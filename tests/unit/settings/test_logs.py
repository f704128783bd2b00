"""How log lines look."""

from __future__ import annotations

import json
import logging

import pytest

from qcompute.miner.logs import JsonLines, TextLines


def record(message: str, *, error: BaseException | None = None, **extra: object) -> logging.LogRecord:
    exc_info = (type(error), error, None) if error else None
    made = logging.LogRecord("qcompute.x", logging.INFO, __file__, 1, message, (), exc_info)
    made.created = 1_800_000_000.25
    vars(made).update(extra)
    return made


def test_a_text_line_has_time_level_logger_message_and_facts() -> None:
    line = TextLines().format(record("accepted -> ready", action="move", execution_id="e1", verdict=None))
    assert line == "2027-01-15 08:00:00.250 INFO     qcompute.x accepted -> ready [action=move execution_id=e1]"


def test_a_json_line_has_the_same_facts() -> None:
    document = json.loads(JsonLines().format(record("hello", action="move", execution_id="e1", when=object)))
    assert document["time"] == "2027-01-15T08:00:00.250Z"
    assert (document["level"], document["logger"], document["message"]) == ("info", "qcompute.x", "hello")
    assert (document["action"], document["execution_id"]) == ("move", "e1")


def test_a_stranger_s_text_cannot_start_a_line_of_its_own() -> None:
    assert "\n" not in TextLines().format(record("bad\r\n2027 CRITICAL forged", reason="x"))
    assert "\n" not in TextLines().format(record("fine", reason="bad\n2027 CRITICAL forged"))
    assert "\n" not in JsonLines().format(record("bad\nforged"))


@pytest.mark.parametrize("formatter", [TextLines(), JsonLines()])
def test_tracebacks_are_kept(formatter: logging.Formatter) -> None:
    assert "ValueError: boom" in formatter.format(record("died", error=ValueError("boom")))
