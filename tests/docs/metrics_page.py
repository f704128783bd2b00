"""The page of ``docs/reference`` about what the daemon measures, written from `qcompute.meters`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from qcompute.meters import Answer, Refusal, Step, described
from qcompute.miner.job import State, Verdict
from qcompute.miner.providers.base import Verb

_HEAD: Final = """\
<!-- Written by `make docs` from the code; change it there. -->

# Metrics

`GET /metrics` on the operator port, as text for Prometheus or, where it is asked for, as OpenMetrics; how to use it
is told in [monitoring](../how-to/monitoring.md). Counters and histograms begin anew with each start of the daemon;
gauges are read from the ledger, the chain and the vendors' last words when Prometheus asks, at most once a second. Of
the process there are `process_cpu_seconds_total`, `process_resident_memory_bytes`, `process_open_fds` and their like.
No label ever holds a hotkey, an execution id or a URL.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def metrics_page() -> str:
    """``docs/reference/metrics.md``."""
    rows = [
        f"| `{one.name}` | {one.kind} | {_words(one.labels)} | {one.documentation} |\n"
        for one in sorted(described(), key=lambda one: one.name)
    ]
    labels = (
        ("`account`", "the accounts of the settings"),
        ("`device`", "what the vendors call theirs"),
        ("`outcome`", _words(answer.value for answer in Answer)),
        ("`period`", "`day` `month`, and `job` for the limit of one"),
        ("`reason`", _words(reason.value for reason in Refusal)),
        ("`result` of a call", "`ok`, or the code of [the error](errors.md)"),
        ("`result` of an alert", "`delivered` `given_up`"),
        ("`state`", _words(state.value for state in State)),
        ("`step`", _words(step.value for step in Step)),
        ("`verb`", _words(verb.value for verb in Verb) + " `close`"),
        ("`verdict`", _words(verdict.value for verdict in Verdict)),
    )
    table = "".join(f"| {name} | {values} |\n" for name, values in labels)
    return f"{_HEAD}{''.join(rows)}\n## Values of the labels\n\n| label | values |\n|---|---|\n{table}"


def _words(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words)
