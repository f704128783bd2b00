"""The page of performance: what was measured, and the names of what was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.__main__ import BENCHES
from tests.docs import performance


def line(bench: str, run: str, value: float) -> dict[str, Any]:
    figure = {"name": "polls", "value": value, "unit": "s", "peer": "aim", "peer_value": 2.0, "ratio": 2.0 / value}
    return figure | {"bench": bench, "about": "What it shows.", "run": run, "load": 1.25, "cores": 2}


def test_the_last_run_of_each_counts() -> None:
    runs = [("road", "2026-11-21T10", 1.0), ("road", "2026-11-21T11", 4.0), ("collect", "2026-11-21T10", 5.0)]
    seen = performance.latest([json.dumps(line(*one)) for one in runs])
    assert [figure["value"] for figure in seen["road"]] == [4.0]
    assert [figure["value"] for figure in seen["collect"]] == [5]


def test_a_page_shows_each_figure_beside_its_peer() -> None:
    text = performance.page({name: [line(name, "2026-11-21T10", 4.0)] for name in BENCHES})
    assert text.count("| polls | 4 | s | aim | 2 | 0.5x |") == len(BENCHES)
    assert "load average before it 1.2 on 2 cores" in text


def test_a_benchmark_that_has_not_run_is_named() -> None:
    first, *others = BENCHES
    text = performance.page({first: [line(first, "2026-11-21T10", 4.0)]})
    assert f"## `{first}`" in text
    assert f"## Not measured in this state\n\n{', '.join(f'`{name}`' for name in others)}\n" in text


def test_the_page_that_is_kept_has_every_benchmark() -> None:
    text = performance.PAGE.read_text(encoding="utf-8")
    assert [name for name in BENCHES if f"`{name}`" not in text] == []


def test_nothing_measured_leaves_the_page_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(performance, "FILE", tmp_path / "bench.jsonl")
    monkeypatch.setattr(performance, "PAGE", tmp_path / "page.md")
    assert performance.main() == 1
    assert "road" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()
