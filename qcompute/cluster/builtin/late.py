"""Stands for an adapter of this machine that may not be able to open yet, such as one for a GPU that is not there.

Until it opens it has no device, so nothing is advertised or routed to it; what was submitted before a restart is asked
for again later. Every health check tries to open it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, ClassVar

from typing_extensions import override

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.target import Target
from qcompute.errors import ConfigError, Unavailable
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
    Prepared,
    ProviderAdapter,
    submit_takes,
)
from qcompute.units import IdempotencyToken, Money


class LateAdapter(ProviderAdapter):
    """``make`` opens the real adapter, whose ``idempotency`` must be CLIENT_ID and which must tell of ends.

    The first try is made here. ``at_once`` is how many jobs it will run at once.
    """

    idempotency: ClassVar[Idempotency] = Idempotency.CLIENT_ID

    def __init__(self, make: Callable[[], ProviderAdapter], *, at_once: int = 1) -> None:
        self._make = make
        self._at_once = at_once
        self._lock = threading.Lock()
        self._inner: ProviderAdapter | None = None
        self._reason = ""
        self._closed = False
        self._begun = False
        self._tell_end: Callable[[str], None] = lambda _: None
        try:
            self.open_now()
        except ConfigError as error:
            self._reason = error.message

    def open_now(self) -> None:
        """Open it, unless it is.

        Raises:
            ConfigError: it cannot be opened; the message is the reason.
        """
        with self._lock:
            if self._inner is None and not self._closed:
                try:
                    inner = self._make()
                    self._take(inner)
                except ConfigError as error:
                    self._reason = error.message
                    raise

    def _take(self, inner: ProviderAdapter) -> None:
        """Let it be the real one, which has its jobs where this one has. Raises `ConfigError`; then it is closed."""
        inner.on_end(self._tell_end)
        if self._begun:
            try:
                inner.begin()
            except ConfigError:
                inner.close()
                raise
        self._inner = inner

    def _opened(self) -> ProviderAdapter:
        if self._inner is None:
            raise Unavailable(self._reason or "it is closed")
        return self._inner

    @override
    def list_devices(self) -> list[Device]:
        return [] if self._inner is None else self._inner.list_devices()

    @override
    def list_capabilities(self) -> list[Capability]:
        return [] if self._inner is None else self._inner.list_capabilities()

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        return None if self._inner is None else self._inner.get_capability(device_id)

    @override
    def submit(
        self,
        circuit_data: str,
        device_id: str | None = None,
        shots: int | None = None,
        *,
        token: IdempotencyToken | None = None,
        options: JobOptions | None = None,
    ) -> JobHandle:
        inner = self._opened()
        offered: dict[str, Any] = {"token": token, "options": options}
        submit: Callable[..., JobHandle] = inner.submit
        return submit(circuit_data, device_id, shots, **{name: offered[name] for name in submit_takes(inner)})

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        return self._opened().poll(handle)

    @override
    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        return self._opened().poll_many(handles)

    @override
    def cancel(self, handle: JobHandle) -> None:
        self._opened().cancel(handle)

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        return self._opened().get_job_receipt(handle)

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        if self._inner is None:
            return AvailabilityStatus(availability="OFFLINE", is_available=False, status_msg=self._reason)
        return self._inner.get_availability(device_id)

    @override
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        return None if self._inner is None else self._inner.get_pricing(device_id)

    @override
    def price_currency(self) -> str:
        return super().price_currency() if self._inner is None else self._inner.price_currency()

    @override
    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        return self._opened().find(token, since)

    @override
    def target(self, device: Device, options: JobOptions) -> Target | None:
        return self._opened().target(device, options)

    @override
    def prepare(self, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions) -> Prepared:
        return self._opened().prepare(circuit, device, shots, options)

    @override
    def check(self, circuit: CompiledCircuit, device: Device, shots: int) -> None:
        self._opened().check(circuit, device, shots)

    @override
    def estimate(self, prepared: Prepared, device: Device, shots: int) -> Money | None:
        return self._opened().estimate(prepared, device, shots)

    @override
    def on_end(self, tell: Callable[[str], None]) -> None:
        with self._lock:
            self._tell_end = tell
            if self._inner is not None:
                self._inner.on_end(tell)

    @override
    def begin(self) -> None:
        """What opens later begins then, and what cannot begin counts as not open yet."""
        with self._lock:
            inner, self._inner, self._begun = self._inner, None, True
            if inner is not None:
                try:
                    self._take(inner)
                except ConfigError as error:
                    self._reason = error.message

    @override
    def renewed_by(self, fresh: ProviderAdapter) -> ProviderAdapter:
        return fresh if self._inner is None else self._inner.renewed_by(fresh)

    @override
    def limits(self) -> Limits:
        return Limits(max_poll_batch=1000, max_running_jobs=self._at_once, poll_interval_seconds=0.2)

    @override
    def close(self) -> None:
        with self._lock:
            inner, self._inner, self._closed = self._inner, None, True
            self._reason = "it is closed"
        if inner is not None:
            inner.close()
