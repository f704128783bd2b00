"""Preloaded by workers on hosts and in allocations: a worker that has closed ends its process.

A worker of distributed 2026.8 whose scheduler went away while it closed was found waiting, half an hour later, for a
task that had swallowed its own cancellation (``Worker.handle_scheduler``). It would have kept an allocation, and paid
for it, until its walltime.
"""

from __future__ import annotations

import os
import threading

GRACE_SECONDS = 20.0
"""What closing may take; it takes less than one when it works."""


def dask_teardown(worker: object) -> None:
    """Called by Dask when a worker begins to close."""
    del worker
    timer = threading.Timer(GRACE_SECONDS, os._exit, [0])
    timer.daemon = True
    timer.start()
