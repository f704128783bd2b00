"""What the daemon measures of itself: every metric's name, kind, labels and meaning, and the text Prometheus reads.

The only module that knows ``prometheus_client``. Counters and histograms are incremented where things happen, through
children bound once: no name or label is looked up for a job. Gauges are not kept at all: whoever serves a scrape reads
them then (`qcompute.console.metrics`) and hands them to `exposition`. Label values are bounded by the code and the
settings: never a hotkey, an execution id, a token or a URL. ``docs/reference/metrics.md`` is made from this module.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from qcompute import __version__

_FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CALL: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_STEP: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0, 604800.0)

# When a child was first seen is a series more for each, and nobody asks.
disable_created_metrics()
REGISTRY: Final = CollectorRegistry(auto_describe=False)


class Refusal(StrEnum):
    """Why the intake did not take a job."""

    EXECUTION_ID = "execution_id"
    SHOTS = "shots"
    NO_URL = "no_url"
    OPTIONS = "options"
    CLOSED = "closed"
    BUDGET = "budget"
    FULL = "full"
    SHARE = "share"


class Step(StrEnum):
    """A stretch of a job's road, between two times that stand in its row."""

    PREPARE = "prepare"
    """From the request to the submit: download, screening, routing, waiting for the account's turn."""
    VENDOR = "vendor"
    """From the submit to the stored outcome."""
    DELIVER = "deliver"
    """From the stored outcome to the delivery."""


class Answer(StrEnum):
    """What a caller of the axon was told."""

    OK = "ok"
    BAD_REQUEST = "bad_request"
    NOT_VERIFIED = "not_verified"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    OTHER = "other"


_ANSWERS: Final = {
    200: Answer.OK,
    400: Answer.BAD_REQUEST,
    401: Answer.NOT_VERIFIED,
    403: Answer.FORBIDDEN,
    408: Answer.BAD_REQUEST,
    413: Answer.BAD_REQUEST,
    422: Answer.BAD_REQUEST,
    429: Answer.RATE_LIMITED,
    503: Answer.UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Described:
    """One metric for the reference page. ``samples`` are the names Prometheus stores."""

    name: str
    kind: str
    labels: tuple[str, ...]
    documentation: str
    samples: tuple[str, ...]


_KEPT: Final[list[Described]] = []


def _histogram(name: str, documentation: str, *labels: str, buckets: Sequence[float]) -> Histogram:
    samples = tuple(f"{name}_{ending}" for ending in ("bucket", "sum", "count"))
    _KEPT.append(Described(name, "histogram", labels, documentation, samples))
    return Histogram(name, documentation, labels, registry=REGISTRY, buckets=buckets)


def _counter(name: str, documentation: str, *labels: str) -> Counter:
    _KEPT.append(Described(f"{name}_total", "counter", labels, documentation, (f"{name}_total",)))
    return Counter(name, documentation, labels, registry=REGISTRY)


_axon: Final = _histogram(
    "qcompute_axon_request_seconds",
    "Requests of validators, by what they were told: from the head to the answer.",
    "outcome",
    buckets=_FAST,
)
_accepted: Final = _counter("qcompute_jobs_accepted", "Jobs taken: stored, and the validator told so.")
_refused: Final = _counter("qcompute_intake_refused", "Jobs not taken, by reason.", "reason")
_ended: Final = _counter("qcompute_jobs_ended", "Jobs whose outcome was stored, by how they ended.", "verdict")
_steps: Final = _histogram(
    "qcompute_job_step_seconds",
    "How long jobs took for each step: prepare (request to submit), vendor (submit to stored outcome), deliver.",
    "step",
    buckets=_STEP,
)
_calls: Final = _histogram(
    "qcompute_vendor_call_seconds",
    "Calls to a vendor by account, verb and result: ok, or the code of the error.",
    "account",
    "verb",
    "result",
    buckets=_CALL,
)
_commits: Final = _histogram(
    "qcompute_ledger_commit_seconds",
    "Transactions that wrote to the ledger; writers who came together share one.",
    buckets=_FAST,
)
_lag: Final = _histogram(
    "qcompute_event_loop_lag_seconds",
    "How late the event loop was for a timer, twice a second: everything the daemon answers waits so long.",
    buckets=_FAST,
)
_alerts: Final = _counter("qcompute_alerts", "Messages to the webhook of [alerts], by what became of them.", "result")
ProcessCollector(registry=REGISTRY)

_axon_by_answer: Final = {answer: _axon.labels(answer.value) for answer in Answer}
_axon_by_status: Final = {status: _axon_by_answer[answer] for status, answer in _ANSWERS.items()}
_refused_by_reason: Final = {reason: _refused.labels(reason.value) for reason in Refusal}
_by_step: Final = {step: _steps.labels(step.value) for step in Step}
_ended_by_verdict: Final = {
    verdict: _ended.labels(verdict) for verdict in ("succeeded", "failed", "cancelled", "refused")
}
_alerts_by_result: Final = {result: _alerts.labels(result) for result in ("delivered", "given_up")}

job_accepted: Final = _accepted.inc
ledger_commit: Final = _commits.observe
event_loop_lag: Final = _lag.observe


def axon_request(status: int, seconds: float) -> None:
    """Count one answered request of the axon by its HTTP status."""
    _axon_by_status.get(status, _axon_by_answer[Answer.OTHER]).observe(seconds)


def intake_refused(reason: Refusal) -> None:
    """Count one job that was not taken."""
    _refused_by_reason[reason].inc()


def job_ended(verdict: str) -> None:
    """Count one job whose outcome was stored; ``verdict`` is a `qcompute.miner.job.Verdict`."""
    _ended_by_verdict[verdict].inc()


def job_step(step: Step, seconds: float) -> None:
    """Count one step of one job; two clocks may disagree, so a negative time counts as none."""
    _by_step[step].observe(max(seconds, 0.0))


def alert_sent(*, delivered: bool) -> None:
    """Count one message to the webhook."""
    _alerts_by_result["delivered" if delivered else "given_up"].inc()


class VendorMeter:
    """Counts the calls of one account. Safe to use from its threads."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._children: dict[tuple[str, str], Histogram] = {}

    def observe(self, verb: str, result: str, seconds: float) -> None:
        """Count one call; ``result`` is ``ok`` or the code of an error."""
        child = self._children.get((verb, result))
        if child is None:
            child = self._children[verb, result] = _calls.labels(self._account, verb, result)
        child.observe(seconds)


@dataclass(frozen=True, slots=True)
class Gauge:
    """A metric that is read when Prometheus asks. ``labels`` name what tells its values apart."""

    name: str
    documentation: str
    labels: tuple[str, ...] = ()

    def read(self, value: float, *labels: str) -> Reading:
        """One value of it, with the values of its labels in their order."""
        return Reading(self, labels, value)


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of a gauge."""

    gauge: Gauge
    labels: tuple[str, ...]
    value: float


JOBS: Final = Gauge("qcompute_jobs", "Jobs in the ledger by state, parts of split jobs included.", ("state",))
OLDEST_JOB_AGE: Final = Gauge(
    "qcompute_oldest_job_age_seconds",
    "Time since the request of the oldest job in each state; 0 where there is none.",
    ("state",),
)
OPEN_JOBS: Final = Gauge(
    "qcompute_account_jobs",
    "Jobs submitted or to be submitted, by account, device and state: our queue there.",
    ("account", "device", "state"),
)
HELD_JOBS: Final = Gauge("qcompute_held_jobs", "Jobs that wait for an operator, by account.", ("account",))
DELIVERIES_WAITING: Final = Gauge("qcompute_deliveries_waiting", "Stored outcomes that are not delivered yet.")
OLDEST_DELIVERY_AGE: Final = Gauge(
    "qcompute_oldest_delivery_age_seconds",
    "Time since the oldest outcome was stored that is not delivered yet; 0 when there is none.",
)
ACCOUNT_UP: Final = Gauge("qcompute_account_up", "1 while an account can be used.", ("account", "vendor"))
DEVICE_AVAILABLE: Final = Gauge(
    "qcompute_device_available", "1 while the vendor says that a device takes jobs.", ("account", "device")
)
DEVICE_PENDING: Final = Gauge(
    "qcompute_device_pending_jobs", "The vendor's own queue at a device, everybody's jobs.", ("account", "device")
)
BUDGET_LIMIT: Final = Gauge(
    "qcompute_budget_limit",
    "What may be spent, for a job, day or month of UTC; no sample where there is no limit.",
    ("account", "currency", "period"),
)
BUDGET_COMMITTED: Final = Gauge(
    "qcompute_budget_committed",
    "What is spent or reserved in the current day and month of UTC.",
    ("account", "currency", "period"),
)
BUDGET_RESERVED: Final = Gauge(
    "qcompute_budget_reserved", "What is reserved for jobs that have not ended.", ("account", "currency")
)
CHAIN_AGE: Final = Gauge(
    "qcompute_chain_age_seconds", "Time since the metagraph was read; no sample before it ever was."
)
CHAIN_FAILING: Final = Gauge("qcompute_chain_failing", "1 when the last try to read the metagraph failed.")
REGISTERED: Final = Gauge(
    "qcompute_registered", "1 while our hotkey is in the metagraph; no sample before it was read."
)
ACCEPTING: Final = Gauge("qcompute_accepting_jobs", "1 while new jobs are taken.")
WORKING: Final = Gauge(
    "qcompute_works_on", "1 where this process does the work of a lane: an account, or @road.", ("lane",)
)

GAUGES: Final = (
    JOBS,
    OLDEST_JOB_AGE,
    OPEN_JOBS,
    HELD_JOBS,
    DELIVERIES_WAITING,
    OLDEST_DELIVERY_AGE,
    ACCOUNT_UP,
    DEVICE_AVAILABLE,
    DEVICE_PENDING,
    BUDGET_LIMIT,
    BUDGET_COMMITTED,
    BUDGET_RESERVED,
    CHAIN_AGE,
    CHAIN_FAILING,
    REGISTERED,
    ACCEPTING,
    WORKING,
)
"""All gauges, in the order of the reference page."""

BUILD: Final = "qcompute_build"
BUILD_DOCUMENTATION: Final = "Version of qcompute and of Python."


def described() -> list[Described]:
    """Every metric of ours; those of the process (``process_…``) are the library's."""
    gauges = [Described(one.name, "gauge", one.labels, one.documentation, (one.name,)) for one in GAUGES]
    build = Described(f"{BUILD}_info", "info", ("version", "python"), BUILD_DOCUMENTATION, (f"{BUILD}_info",))
    return [*_KEPT, *gauges, build]


class _Both(Collector):
    """What is kept, and what was read just now."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings

    def collect(self) -> Iterable[Metric]:
        yield from REGISTRY.collect()
        families = {gauge: GaugeMetricFamily(gauge.name, gauge.documentation, labels=gauge.labels) for gauge in GAUGES}
        for one in self._readings:
            families[one.gauge].add_metric(one.labels, one.value)
        yield from (family for family in families.values() if family.samples)
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily(BUILD, BUILD_DOCUMENTATION, value=build)


def exposition(accept: str, readings: Sequence[Reading]) -> tuple[bytes, str]:
    """Everything as text, in the format an ``Accept`` header asks for, and its content type."""
    encode, content_type = choose_encoder(accept)
    both: Any = _Both(readings)  # a whole registry to the encoder, which only collects
    return encode(both), content_type
