"""The world around the road, in memory: a vendor, a host of circuits and a job server, all of which can fail.

They outlive the daemon. `Life` is one daemon's: when its fuse burns down, at any of the moments it counts, nothing that
daemon still does reaches the world any more, as if it had been killed there.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from typing_extensions import override

from qcompute.errors import (
    AuthFailed,
    BadReply,
    DeliveryError,
    FetchFailed,
    FetchRefused,
    Refused,
    SubmitUnknown,
    Unavailable,
    UploadRefused,
)
from qcompute.jobserver.contract import BackendReport, UploadSlot
from qcompute.miner.providers.base import (
    Absent,
    AvailabilityStatus,
    BaseExecutionStatus,
    CannotTell,
    Capability,
    Device,
    Found,
    Idempotency,
    JobHandle,
    JobReceipt,
    Limits,
    ProviderAdapter,
    ProviderStatus,
)
from qcompute.units import Counts, ExecutionId, IdempotencyToken
from tests.unit.miner.scripted import Clock

LAG_SECONDS = 50.0
"""A vendor's list may be so far behind; a second look comes after a minute."""


class Dead(BaseException):
    """The daemon was killed; nothing of it may go on."""


class Life:
    """One daemon's time between its start and its kill."""

    def __init__(self) -> None:
        self.dead = False
        self.killed = asyncio.Event()
        self._fuse: int | None = None
        self._loop = asyncio.get_running_loop()

    def light(self, moments: int | None) -> None:
        """Die at the so-manieth moment from now; not at all for None."""
        self._fuse = moments

    def moment(self) -> None:
        """Called before and after everything that reaches the world; raises `Dead` for a daemon that is."""
        if self._fuse is not None and not self.dead:
            self._fuse -= 1
            if self._fuse < 0:
                self.kill()
        if self.dead:
            raise Dead

    def kill(self) -> None:
        """End it here; from any thread."""
        self.dead = True
        self._loop.call_soon_threadsafe(self.killed.set)


class SubmitFault(StrEnum):
    """What becomes of a paid call."""

    LOST_ANSWER = "lost answer"
    LOST_REQUEST = "lost request"
    UNAVAILABLE = "unavailable"
    AUTH = "auth"
    REFUSED = "refused"
    SURPRISE = "surprise"


@dataclass
class VendorJob:
    """One job that must be paid."""

    id: str
    token: str
    created_at: datetime
    status: ProviderStatus = ProviderStatus.QUEUED


@dataclass
class Cloud:
    """The vendor's own table, and what goes wrong there next."""

    clock: Clock
    idempotency: Idempotency = Idempotency.TAG
    jobs: list[VendorJob] = field(default_factory=list[VendorJob])
    by_token: dict[str, list[VendorJob]] = field(default_factory=lambda: defaultdict[str, list[VendorJob]](list))
    submit_faults: list[SubmitFault] = field(default_factory=list[SubmitFault])
    call_faults: list[Exception] = field(default_factory=list[Exception])
    lags: bool = False

    def create(self, token: str) -> VendorJob:
        """A paid job; the one that is there already where the vendor knows the token."""
        knows_tokens = self.idempotency in (Idempotency.TOKEN, Idempotency.CLIENT_ID)
        if knows_tokens and (known := self.by_token[token]):
            return known[0]
        job = VendorJob(f"vendor-{len(self.jobs) + 1}", token, self.clock())
        self.jobs.append(job)
        self.by_token[token].append(job)
        return job

    def job(self, handle: JobHandle) -> VendorJob:
        """The job of a handle."""
        return next(job for job in self.jobs if job.id == handle.provider_job_id)

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self.submit_faults.clear()
        self.call_faults.clear()
        self.lags = False


def counts_of(job: VendorJob) -> Counts:
    """The result of a vendor job: no two have the same."""
    zeros = int(job.id.removeprefix("vendor-")) % 100
    return {"00": zeros, "11": 100 - zeros} if zeros else {"11": 100}


class CloudAdapter(ProviderAdapter):
    """One daemon's way to the cloud."""

    def __init__(self, cloud: Cloud, life: Life) -> None:
        self._cloud = cloud
        self._life = life
        self.idempotency = cloud.idempotency  # pyright: ignore[reportAttributeAccessIssue] - the cloud's is drawn

    @override
    def list_devices(self) -> list[Device]:
        return [Device(device_id="dev", provider="cloud", device_type="QPU")]

    @override
    def list_capabilities(self) -> list[Capability]:
        return [Capability(num_qubits=5)]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        del device_id
        return Capability(num_qubits=5)

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        del device_id
        return AvailabilityStatus(is_available=True)

    @override
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        del device_id
        return {"perTask": 0.3, "perShot": 0.01}

    @override
    def limits(self) -> Limits:
        return Limits(poll_interval_seconds=2.0)

    @override
    def submit(
        self,
        circuit_data: str,
        device_id: str | None = None,
        shots: int | None = None,
        *,
        token: IdempotencyToken | None = None,
    ) -> JobHandle:
        del circuit_data, shots
        self._life.moment()
        fault = self._cloud.submit_faults.pop(0) if self._cloud.submit_faults else None
        match fault:
            case SubmitFault.UNAVAILABLE:
                raise Unavailable("not now", retry_after_seconds=3)
            case SubmitFault.AUTH:
                raise AuthFailed("who are you?")
            case SubmitFault.REFUSED:
                raise Refused("not this one")
            case SubmitFault.LOST_REQUEST:
                raise SubmitUnknown("the connection was cut")
            case _:
                job = self._cloud.create(token or "")
        self._life.moment()
        if fault is SubmitFault.LOST_ANSWER:
            raise SubmitUnknown("the answer did not come")
        if fault is SubmitFault.SURPRISE:
            raise ValueError("a surprise after the job was made")
        return JobHandle(provider_job_id=job.id, device_id=device_id or "dev")

    @override
    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        self._asked()
        if self._cloud.idempotency is Idempotency.NONE:
            return CannotTell()
        newest = self._cloud.clock() - timedelta(seconds=LAG_SECONDS if self._cloud.lags else 0)
        seen = [job for job in self._cloud.by_token[token] if since <= job.created_at <= newest]
        self._life.moment()
        return Found(handles=[JobHandle(provider_job_id=job.id, device_id="dev") for job in seen]) if seen else Absent()

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        self._asked()
        return BaseExecutionStatus(status=self._cloud.job(handle).status)

    @override
    def cancel(self, handle: JobHandle) -> None:
        self._asked()
        job = self._cloud.job(handle)
        if not job.status.is_terminal:
            job.status = ProviderStatus.CANCELLED
        self._life.moment()

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        self._asked()
        job = self._cloud.job(handle)
        self._life.moment()
        results = {"measurementCounts": counts_of(job)} if job.status is ProviderStatus.COMPLETED else None
        return JobReceipt(
            provider="cloud", provider_job_id=job.id, status=job.status, device_id="dev", cost=1.3, results=results
        )

    def _asked(self) -> None:
        """A call that is free and may fail."""
        self._life.moment()
        if self._cloud.call_faults:
            raise self._cloud.call_faults.pop(0)


CALL_FAULTS: dict[str, Callable[[], Exception]] = {
    "unavailable": lambda: Unavailable("not now"),
    "bad reply": lambda: BadReply("half an answer"),
    "surprise": lambda: ValueError("a surprise"),
}


class DeliveryFault(StrEnum):
    """What becomes of a call of the job server or the store."""

    REFUSED_URL = "refused url"
    LOST_REQUEST = "lost request"
    LOST_ANSWER = "lost answer"


@dataclass
class Platform:
    """The host of the circuits, the store and the job server, with their own tables."""

    hosts_answer: bool = True
    is_up: bool = True
    gone: set[str] = field(default_factory=set[str])
    faults: list[DeliveryFault] = field(default_factory=list[DeliveryFault])
    slots: int = 0
    objects: dict[str, Counts] = field(default_factory=dict[str, Counts])
    failed: list[tuple[ExecutionId, str]] = field(default_factory=list[tuple[ExecutionId, str]])

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self.hosts_answer = self.is_up = True
        self.faults.clear()


class PlatformClient:
    """One daemon's way to the platform: its job server and its downloader."""

    def __init__(self, platform: Platform, life: Life) -> None:
        self._platform = platform
        self._life = life

    async def fetch(self, url: str) -> str:
        """The circuit, whose URL is all that differs."""
        await self._pause()
        if not self._platform.hosts_answer:
            raise FetchFailed("the host did not answer")
        if url in self._platform.gone:
            raise FetchRefused("the host answered 404", reason="host_refused")
        await self._pause()
        return f"circuit of {url}"

    async def upload_slot(self) -> UploadSlot:
        """A new place."""

        async def make() -> UploadSlot:
            self._platform.slots += 1
            return UploadSlot(f"up-{self._platform.slots}", "https://store.test/")

        return await self._call(make)

    async def put_counts(self, slot: UploadSlot, counts: Counts) -> None:
        """Store; other counts on the same place are a fault of the miner's."""

        async def put() -> None:
            assert self._platform.objects.setdefault(slot.upload_id, counts) == counts

        await self._call(put, may_refuse=True)

    async def report_failed(self, execution_id: ExecutionId, message: str) -> None:
        """Remember."""

        async def tell() -> None:
            self._platform.failed.append((execution_id, message))

        await self._call(tell)

    async def report_backend(self, report: BackendReport) -> None:
        """Not of interest here."""
        del report

    async def close(self) -> None:
        """Nothing to close."""

    async def _call(self, effect: Callable[[], Awaitable[Any]], *, may_refuse: bool = False) -> Any:
        await self._pause()
        if not self._platform.is_up:
            raise DeliveryError("the job server is down")
        fault = self._platform.faults.pop(0) if self._platform.faults else None
        if fault is DeliveryFault.LOST_REQUEST:
            raise DeliveryError("the connection was cut")
        if fault is DeliveryFault.REFUSED_URL and may_refuse:
            raise UploadRefused("expired")
        answer = await effect()
        await self._pause()
        if fault is DeliveryFault.LOST_ANSWER:
            raise DeliveryError("the answer did not come")
        return answer

    async def _pause(self) -> None:
        """A moment in which others go on."""
        self._life.moment()
        await asyncio.sleep(0)
        self._life.moment()
