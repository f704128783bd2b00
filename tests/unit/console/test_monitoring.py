"""The files for Prometheus and Grafana load as they are, and name only what the daemon measures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from qcompute import meters
from qcompute.miner.job import State, Verdict
from qcompute.miner.settings import Settings

FOLDER = files("qcompute.console") / "monitoring"
SAMPLES = {sample: one for one in meters.described() for sample in one.samples}
FROM_THE_LIBRARY = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
_NAME = re.compile(r"\b(?:qcompute|process)_[a-z_]+\b")
_GROUPED = re.compile(r"\b(?:by|on) \(([^)]*)\)")
_MATCHED = re.compile(r"(qcompute_[a-z_]+)\{([^}]*)\}")
OF_PROMETHEUS = {"instance", "job", "le"}


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    return json.loads((FOLDER / "dashboard.json").read_text())


def expressions() -> list[str]:
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    return [rule["expr"] for rule in rules()] + panels


def test_every_name_and_label_in_them_is_one_of_the_daemon_s() -> None:
    named = {name for text in expressions() for name in _NAME.findall(text)} - {"qcompute"}
    assert len(named) > 20
    assert named - SAMPLES.keys() - FROM_THE_LIBRARY == set()
    for text in expressions():
        used = set(_NAME.findall(text)) & SAMPLES.keys()
        known = OF_PROMETHEUS.union(*(SAMPLES[name].labels for name in used))
        for group in _GROUPED.findall(text):
            assert {label.strip() for label in group.split(",")} <= known, text
        for name, matchers in _MATCHED.findall(text):
            labels = set(re.findall(r"(\w+)\s*[=!]", matchers))
            assert labels <= OF_PROMETHEUS | set(SAMPLES[name].labels), text


def test_every_metric_is_shown_in_a_panel_or_used_in_a_rule() -> None:
    text = " ".join(expressions())
    assert [one.name for one in meters.described() if not any(sample in text for sample in one.samples)] == []


def test_panels_and_rules_are_told_apart_and_explained() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(rule["annotations"].keys() == {"summary", "description"} for rule in rules())
    assert len({rule["alert"] for rule in rules()}) == len(rules()) >= 5
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places), "none hides another"
    texts = " ".join(rule["annotations"]["description"] for rule in rules())
    root = Path(__file__).resolve().parents[3]
    assert all((root / page).is_file() for page in re.findall(r"docs/\S+\.md", texts))


@pytest.mark.parametrize("command", ["check rules rules.yml", "check config prometheus.yml"])
def test_prometheus_takes_them(command: str) -> None:
    """By its own tool; `make prometheus` installs it."""
    promtool = shutil.which("promtool")
    assert promtool is not None, "run `make prometheus`"
    with_folder = Path(str(FOLDER))
    done = subprocess.run(  # noqa: S603 - a program of the system
        [promtool, *command.split()], cwd=with_folder, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_of_the_rules_fire(tmp_path: Path) -> None:
    """Each on the figures it is for, and not on those of a daemon that is well: judged by Prometheus' own engine."""
    shutil.copy(str(FOLDER / "rules.yml"), tmp_path / "rules.yml")
    (tmp_path / "cases.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": _cases()}))
    done = subprocess.run(
        ["promtool", "test", "rules", "cases.yml"],  # noqa: S607 - where the system has it
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


_AT = 'instance="a", job="qcompute"'
_BUDGET = f'{_AT}, account="x", currency="USD", period="day"'
_BAD = {
    "QcomputeDown": [f"up{{{_AT}}} 0"],
    "QcomputeJobsHeld": [f'qcompute_held_jobs{{{_AT}, account="x"}} 1'],
    "QcomputeDeregistered": [f"qcompute_registered{{{_AT}}} 0"],
    "QcomputeVendorDown": [f'qcompute_account_up{{{_AT}, account="x", vendor="v"}} 0'],
    "QcomputeBudgetNearlySpent": [
        f"qcompute_budget_committed{{{_BUDGET}}} 8",
        f"qcompute_budget_limit{{{_BUDGET}}} 10",
    ],
    "QcomputeDeliveryOverdue": [f"qcompute_oldest_delivery_age_seconds{{{_AT}}} 3601"],
    "QcomputeChainStale": [f"qcompute_chain_age_seconds{{{_AT}}} 3601"],
    "QcomputeNotAccepting": [f"qcompute_accepting_jobs{{{_AT}}} 0"],
    "QcomputeVendorCallsFail": [
        f'qcompute_vendor_call_seconds_count{{{_AT}, account="x", verb="poll", result="unavailable"}} 0+60',
        f'qcompute_vendor_call_seconds_count{{{_AT}, account="x", verb="poll", result="ok"}} 0+1',
    ],
    "QcomputeAxonSlow": [
        f'qcompute_axon_request_seconds_bucket{{{_AT}, outcome="ok", le="2.5"}} 0+1',
        f'qcompute_axon_request_seconds_bucket{{{_AT}, outcome="ok", le="5"}} 0+100',
        f'qcompute_axon_request_seconds_bucket{{{_AT}, outcome="ok", le="+Inf"}} 0+100',
    ],
    "QcomputeLedgerSlow": [
        f'qcompute_ledger_commit_seconds_bucket{{{_AT}, le="1"}} 0+1',
        f'qcompute_ledger_commit_seconds_bucket{{{_AT}, le="2.5"}} 0+100',
        f'qcompute_ledger_commit_seconds_bucket{{{_AT}, le="+Inf"}} 0+100',
    ],
}
"""Figures on which each alert fires: a series, and its value or, after ``0+``, its growth a minute."""


def _cases() -> list[dict[str, Any]]:
    assert _BAD.keys() == {rule["alert"] for rule in rules()}
    return [
        {
            "interval": "1m",
            "input_series": [_series(line, well=well) for line in _BAD[name]],
            "promql_expr_test": [_firing(name, well=well)],
        }
        for name in _BAD
        for well in (False, True)
    ]


def _series(line: str, *, well: bool) -> dict[str, str]:
    name, _, value = line.rpartition(" ")
    if well:
        value = {"0": "1", "1": "0", "8": "7.9", "3601": "3599", "10": "10"}.get(value, "5+0")
    return {"series": name, "values": f"{value}x40" if "+" in value else f"{value}+0x40"}


def _firing(name: str, *, well: bool) -> dict[str, Any]:
    found = {"labels": "{}", "value": 1}
    expr = f'count(ALERTS{{alertname="{name}", alertstate="firing"}})'
    return {"expr": expr, "eval_time": "35m", "exp_samples": [] if well else [found]}


def test_states_and_verdicts_are_those_of_jobs() -> None:
    text, _ = meters.exposition("", [meters.JOBS.read(1, state.value) for state in State])
    shown = text.decode()
    assert all(f'qcompute_jobs{{state="{state}"}} 1.0' in shown for state in State)
    assert all(f'qcompute_jobs_ended_total{{verdict="{verdict}"}}' in shown for verdict in Verdict)


def test_the_example_asks_the_default_port() -> None:
    document = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (target,) = document["scrape_configs"][0]["static_configs"][0]["targets"]
    operator = Settings.model_fields["operator"].get_default(call_default_factory=True)
    assert target == f"{operator.host}:{operator.port}"
