"""Preloaded by workers on hosts and in allocations: a worker that has closed, or is told to end, ends its process.

A worker of distributed 2026.8 whose scheduler went away while it closed was found waiting, half an hour later, for a
task that had swallowed its own cancellation (``Worker.handle_scheduler``). It would have kept an allocation, and paid
for it, until its walltime. Another was found so an hour after SIGTERM: without a nanny Dask does not close a worker
then, it ends the event loop under it, which waits for the same tasks.
"""

from __future__ import annotations

import asyncio
import os
import threading

GRACE_SECONDS = 20.0
"""What closing may take; it takes less than one when it works."""

_sentinels: list[asyncio.Task[None]] = []
"""The loop holds tasks weakly."""


def dask_setup(worker: object) -> None:
    """Called by Dask, in its event loop, when a worker begins."""
    del worker
    _sentinels.append(asyncio.get_running_loop().create_task(_until_the_loop_ends()))


def dask_teardown(worker: object) -> None:
    """Called by Dask when a worker begins to close."""
    del worker
    _end_soon()


async def _until_the_loop_ends() -> None:
    try:
        await asyncio.Event().wait()
    finally:  # `asyncio.run` cancels what is left when its coroutine has returned
        _end_soon()


def _end_soon() -> None:
    timer = threading.Timer(GRACE_SECONDS, os._exit, [0])
    timer.daemon = True
    timer.start()
