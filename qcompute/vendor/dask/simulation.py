"""Runs on a Dask worker: one circuit in a sandboxed child of that worker, the same child as the ``aer`` adapter's.

A circuit that takes too much memory or time, or crashes its simulator, ends its child; the worker and its other
circuits go on. Dask calls `simulate` in a thread of the worker and may call it again elsewhere when the worker dies.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Final

from qcompute.circuits.sandbox import SandboxCancelled, SandboxLimits, SandboxPool
from qcompute.errors import CannotRun

ENTRY: Final = "qcompute.vendor.aer.child:work"
TOPIC: Final = "qcompute-started"

_MAX_REPLY_BYTES: Final = 64 << 20

_lock = threading.Lock()
_pools: dict[SandboxLimits, SandboxPool] = {}
_stops: dict[str, threading.Event] = {}


def simulate(job_id: str, request: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """Run one circuit; ``limits`` are fields of `SandboxLimits`.

    Returns ``{"reply": …}`` with what Aer answered, ``{"refusal": text}`` when the circuit cannot be run, or
    ``{"cancelled": True}``, each with ``started`` and ``ended`` (seconds since 1970 by the worker's clock).

    Raises:
        SandboxUnavailable: no child could be started here; another worker may do better.
    """
    with _lock:
        stop = _stops.setdefault(job_id, threading.Event())
    _tell_started(job_id)
    began = time.time()
    try:
        answer = {"reply": _pool(SandboxLimits(max_reply_bytes=_MAX_REPLY_BYTES, **limits)).call(request, cancel=stop)}
    except SandboxCancelled:
        answer = {"cancelled": True}
    except CannotRun as refusal:
        answer = {"refusal": refusal.message}
    finally:
        with _lock:
            _stops.pop(job_id, None)
    return answer | {"started": began, "ended": time.time()}


def stop(job_id: str) -> None:
    """Cancel it if it runs here."""
    with _lock:
        event = _stops.get(job_id)
    if event is not None:
        event.set()


def _pool(limits: SandboxLimits) -> SandboxPool:
    """The children of this worker; Dask's threads bound how many are at work, so the pool need not."""
    with _lock:
        if limits not in _pools:
            _pools[limits] = SandboxPool(ENTRY, limits=limits, size=4 * (os.cpu_count() or 1), name="simulate")
        return _pools[limits]


def _tell_started(job_id: str) -> None:
    from distributed import get_worker  # noqa: PLC0415 - only where Dask runs

    worker = get_worker()
    worker.log_event(TOPIC, {"job_id": job_id, "worker": str(worker.name)})
