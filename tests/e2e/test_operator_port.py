"""One real daemon: its operator port, what it tells Prometheus, its traces and its alerts, over a kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain_text

from qcompute import meters
from qcompute.chain.keys import signer_from_uri
from qcompute.console.alerts import told_file
from qcompute.console.port import operator_url, port_file
from qcompute.console.tracing import trace_id_of
from qcompute.miner.job import State
from qcompute.units import ExecutionId
from tests.receivers import Receiver, attributes_of
from tests.scene import VALIDATOR_URI, Scene, running_scene, until_true

pytestmark = pytest.mark.asyncio(loop_scope="module")

JOBS = 4
PRICE = 0.08
PER_DAY = "0.40"
"""Room for one more job; the first four are 80 % of it."""
ACCEPTS_OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


@dataclass
class Watched:
    """The scene, and who is told of it."""

    scene: Scene
    chat: Receiver
    collector: Receiver
    jobs: list[ExecutionId]

    def told(self) -> list[tuple[str, str]]:
        return [(one.document["kind"], one.document["status"]) for one in self.chat.received]

    async def metrics(self, headers: dict[str, str] | None = None) -> tuple[str, str]:
        url = f"{self.scene.miner.operator_url}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            assert answer.status == 200
            return await answer.text(), answer.headers["Content-Type"]

    async def value(self, name: str, **labels: str) -> float:
        text, _ = await self.metrics()
        found = [
            sample.value
            for family in plain_text(text)
            for sample in family.samples
            if sample.name == name and sample.labels.items() >= labels.items()
        ]
        assert len(found) == 1, (name, labels, found)
        return found[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Watched, None]:
    """Four jobs went their way, and used up 80 % of the day's budget."""
    chat, collector = Receiver(), Receiver()
    await chat.start()
    await collector.start()
    environment = {
        "QCOMPUTE_BUDGET__PER_DAY": PER_DAY,
        "QCOMPUTE_TRACING__ENDPOINT": f"{collector.url}/v1/traces",
        "QCOMPUTE_ALERTS__WEBHOOK": "chat",
        "QCOMPUTE_ALERTS__AFTER_SECONDS": "0",
        "QCOMPUTE_ALERTS__DELIVERY_SECONDS": "0.5",
        "QCOMPUTE_SECRET_CHAT": f"{chat.url}/services/T0KEN",
    }
    async with running_scene(tmp_path_factory.mktemp("operator"), environment=environment) as scene:
        jobs = scene.add_jobs(JOBS)
        await scene.hand_over(JOBS)
        await scene.until_in(State.CLOSED, JOBS)
        yield Watched(scene, chat, collector, jobs)
    await chat.stop()
    await collector.stop()


async def test_commands_find_the_port(watched: Watched) -> None:
    ledger = watched.scene.miner.ledger_path
    assert operator_url(ledger) == watched.scene.miner.operator_url
    assert watched.scene.miner.operator_port != watched.scene.miner.axon_port


async def test_strangers_pages_are_refused_by_the_daemon_itself(watched: Watched) -> None:
    own = f"{watched.scene.miner.operator_url}/metrics"
    axon = f"http://127.0.0.1:{watched.scene.miner.axon_port}/metrics"
    async with aiohttp.ClientSession() as session:
        async with session.get(own, headers={"Host": "evil.example"}) as refused:
            assert refused.status == 421
            assert refused.headers["X-Content-Type-Options"] == "nosniff"
        async with session.get(axon) as unknown:
            assert unknown.status == 404, "validators are told nothing"


def _described(families: list[Metric]) -> None:
    known = {sample: one for one in meters.described() for sample in one.samples}
    for family in families:
        for sample in family.samples:
            if sample.name.startswith("qcompute_"):
                one = known[sample.name]
                assert set(sample.labels) - {"le"} == set(one.labels), sample.name
                assert family.documentation == one.documentation


async def test_both_formats_are_read_by_prometheus_own_parsers(watched: Watched) -> None:
    text, content_type = await watched.metrics()
    assert content_type.startswith("text/plain")
    _described(list(plain_text(text)))
    text, content_type = await watched.metrics(ACCEPTS_OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    untyped: Any = openmetrics
    families: list[Metric] = list(untyped.text_string_to_metric_families(text))
    _described(families)
    assert {one.name for one in meters.GAUGES} - {family.name for family in families} <= {
        meters.HELD_JOBS.name,  # of accounts that hold some
        meters.OPEN_JOBS.name,
    }
    for name in (*watched.jobs, signer_from_uri(VALIDATOR_URI).hotkey, watched.scene.miner.signer.hotkey, "http://127"):
        assert name not in text


async def test_the_figures_are_those_of_the_jobs(watched: Watched) -> None:
    assert await watched.value("qcompute_jobs", state="closed") == JOBS
    assert await watched.value("qcompute_jobs_accepted_total") == JOBS
    assert await watched.value("qcompute_jobs_ended_total", verdict="succeeded") == JOBS
    for step in meters.Step:
        assert await watched.value("qcompute_job_step_seconds_count", step=step.value) == JOBS
    submit = {"account": "mock", "verb": "submit", "result": "ok"}
    assert await watched.value("qcompute_vendor_call_seconds_count", **submit) == JOBS
    assert await watched.value("qcompute_axon_request_seconds_count", outcome="ok") >= JOBS
    assert await watched.value("qcompute_budget_committed", period="day") == pytest.approx(JOBS * PRICE)
    assert await watched.value("qcompute_budget_limit", period="day") == float(PER_DAY)
    assert await watched.value("qcompute_ledger_commit_seconds_count") > JOBS
    assert await watched.value("qcompute_registered") == 1
    assert await watched.value("qcompute_account_up", account="mock") == 1
    assert await watched.value("process_resident_memory_bytes") > 1 << 20


async def test_each_job_is_a_trace(watched: Watched) -> None:
    def sent() -> int:
        return len(list(watched.collector.spans()))

    await until_true(lambda: sent() >= JOBS * 5, what="the traces of all jobs", seconds=20)
    spans = [span for _, span in watched.collector.spans()]
    assert {span.trace_id for span in spans} == {trace_id_of(job).to_bytes(16) for job in watched.jobs}
    for span in spans:
        attributes = attributes_of(span)
        assert attributes["qcompute.provider"] == "mock"
        assert attributes["qcompute.verdict"] == "succeeded"
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    sent_text = b"".join(one.body for one in watched.collector.received)
    assert b"OPENQASM" not in sent_text
    assert b"http://" not in sent_text


async def test_alerts_are_told_once_over_a_kill_and_again_when_it_is_over(watched: Watched) -> None:
    """The budget stays where it is; the object store is down for a while, and the daemon is killed meanwhile."""
    scene = watched.scene
    await until_true(lambda: ("budget", "firing") in watched.told(), what="the budget", seconds=20)
    await scene.platform.store.stop()
    scene.add_jobs(1)
    await scene.hand_over(1)
    await until_true(lambda: ("delivery_overdue", "firing") in watched.told(), what="the delivery", seconds=40)
    assert await watched.value("qcompute_deliveries_waiting") == 1
    assert await watched.value("qcompute_oldest_delivery_age_seconds") > 0.5
    kept: Path = told_file(scene.miner.ledger_path)
    await until_true(lambda: "delivery_overdue" in kept.read_text(), what="what was told is kept", seconds=10)
    await scene.miner.kill()
    assert port_file(scene.miner.ledger_path).exists()
    assert operator_url(scene.miner.ledger_path) is None, "a killed daemon's port is not found"
    await scene.restart()
    assert operator_url(scene.miner.ledger_path) == scene.miner.operator_url
    await scene.platform.store.start()
    await until_true(lambda: ("delivery_overdue", "resolved") in watched.told(), what="the end", seconds=40)
    assert sorted(watched.told()) == [
        ("budget", "firing"),
        ("delivery_overdue", "firing"),
        ("delivery_overdue", "resolved"),
    ]
    assert watched.chat.received[0].path == "/services/T0KEN"
    log = await asyncio.to_thread(scene.miner.log.read_text)
    assert "T0KEN" not in log
