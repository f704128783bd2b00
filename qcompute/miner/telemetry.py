"""Telemetry datapoints of the road, in the reference miner's words (wire/README.md section 3)."""

from __future__ import annotations

from typing import Protocol

from qcompute.miner.job import Job
from qcompute.protocol import COLLECT_ONLY, ExecutionStatus


class Points(Protocol):
    """Where datapoints go: `qcompute.jobserver.telemetry.Telemetry`. Never blocks, never raises."""

    def point(
        self,
        kind: str,
        *,
        number: float | None = None,
        text: str | None = None,
        attributes: dict[str, str] | None = None,
    ) -> None:
        """Queue one datapoint."""
        ...


class RoadTelemetry:
    """Tells of received requests and of changed statuses; a status that did not change is never told."""

    def __init__(self, points: Points) -> None:
        self._points = points

    def received(self, execution_id: str) -> None:
        """One request: 1 for a job, 0 for collecting only."""
        self._points.point("miner_execution_received", number=0.0 if execution_id == COLLECT_ONLY else 1.0)

    def status_changed(self, job: Job, old: ExecutionStatus, new: ExecutionStatus) -> None:
        """A job's public status went from ``old`` to ``new``."""
        self._points.point(
            "miner_execution_status_change",
            text=job.execution_id,
            attributes={"old_status": old.value, "new_status": new.value},
        )
