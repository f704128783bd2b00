"""A Dask worker that is told to end is gone soon, whatever its tasks do."""

from __future__ import annotations

import subprocess
import sys

import pytest

STUBBORN = """
import asyncio, sys
from qcompute.vendor.dask import ending

ending.GRACE_SECONDS = 0.2

async def swallows():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("not I", flush=True)

async def run():
    ending.dask_setup(None)
    task = asyncio.create_task(swallows())
    await asyncio.sleep(0)
    if sys.argv[1] == "closes":
        ending.dask_teardown(None)
        await task

asyncio.run(run())
"""


@pytest.mark.parametrize("how", ["closes", "is told to end"])
def test_a_task_that_swallows_its_cancellation_does_not_keep_the_process(how: str) -> None:
    """Without a nanny Dask ends the loop at SIGTERM and closes nothing: a worker outlived its allocation by an hour."""
    command = [sys.executable, "-c", STUBBORN, how]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert (done.returncode, done.stderr) == (0, "")
    assert ("not I" in done.stdout) == (how == "is told to end")
