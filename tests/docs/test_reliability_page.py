"""The page of reliability: it can only be written of runs that kept what is promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import reliability
from tests.reliability import Record, Seen, read

ALL = [Seen(suite, "road here:before#1", "delivered", ok=True, facts={"created": 1}) for suite in reliability.SUITES]


def test_the_page_has_every_promised_suite_and_nothing_wrong() -> None:
    text = reliability.PAGE.read_text()
    rows = {row.split(" | ")[0].removeprefix("| "): row.split(" | ") for row in text.splitlines() if row.count("|") > 3}
    for suite in reliability.PROMISED:
        _, cases, wrong, *_ = rows[reliability.SUITES[suite]]
        assert int(cases) >= 10
        assert int(wrong) == 0
    assert "**wrong**" not in text


def test_a_case_that_went_wrong_is_shown_as_such() -> None:
    for suite in reliability.SUITES:
        bad = Seen(suite, "road there:after#1", "paid twice", ok=False, facts={"created": 2})
        text = reliability.page([*ALL, bad])
        assert f"| {reliability.SUITES[suite]} | 2 | 1 |" in text
        assert "**wrong**" in text


def test_a_suite_that_was_not_run_leaves_the_page_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reliability, "FILE", tmp_path / "reliability.jsonl")
    monkeypatch.setattr(reliability, "FAULTS_FILE", tmp_path / "faults.jsonl")
    monkeypatch.setattr(reliability, "PAGE", tmp_path / "page.md")
    assert reliability.main() == 1
    assert "crash pairs" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_a_record_replaces_what_its_own_suite_saw_before(tmp_path: Path) -> None:
    file = tmp_path / "build" / "seen.jsonl"
    Record("crash", file).add("old", "fine", ok=True)
    Record("fuzz", file).add("kept", "fine", ok=True, executions=3)
    record = Record("crash", file)
    record.add("new", "lost", ok=False, seconds=1.5)
    assert [(one.suite, one.case, one.facts) for one in read(file)] == [
        ("fuzz", "kept", {"executions": 3}),
        ("crash", "new", {"seconds": 1.5}),
    ]
    assert [one.case for one in record.wrong] == ["new"]
