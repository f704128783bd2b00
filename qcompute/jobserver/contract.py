"""The platform's job server as the daemon sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from qcompute.units import Counts, ExecutionId


class BackendStatus(StrEnum):
    """The words ``PATCH backends`` accepts."""

    ONLINE = "Online"
    OFFLINE = "Offline"
    MAINTENANCE = "Maintenance"


@dataclass(frozen=True, slots=True)
class BackendReport:
    """What ``PATCH backends`` tells: wire/README.md section 3. ``queue_depth`` counts jobs not yet ended."""

    accepting_jobs: bool
    status: BackendStatus
    queue_depth: int
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class UploadSlot:
    """Where one result may be put. ``url`` is presigned: a secret, kept in memory only."""

    upload_id: str
    url: str = field(repr=False)


class JobServer(Protocol):
    """Calls raise `qcompute.errors.DeliveryError`; trying again is the caller's business, a fresh token is not."""

    async def upload_slot(self) -> UploadSlot:
        """Ask where to put one result."""
        ...

    async def put_counts(self, slot: UploadSlot, counts: Counts) -> None:
        """Put the counts there; raises `UploadRefused` when the URL is refused or expired."""
        ...

    async def report_failed(self, execution_id: ExecutionId, message: str) -> None:
        """Say that a job has really ended without a result."""
        ...

    async def report_backend(self, report: BackendReport) -> None:
        """Say what this miner can do now."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
