"""A daemon without work costs next to nothing."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

from tests.scene import running_scene

WATCH_SECONDS = 10.0
MAX_MEGABYTES = 120.0
MAX_CORE = 0.01


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in family(int(child)))]


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def megabytes(pids: list[int]) -> float:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * resource.getpagesize() / 1e6


async def test_an_idle_daemon_needs_little(tmp_path: Path) -> None:
    """With the heartbeat at its default; the second start, because the first one creates the database."""
    settings = {"QCOMPUTE_MINER__HEARTBEAT_SECONDS": "30"}
    async with running_scene(tmp_path, environment=settings) as scene:
        await scene.miner.stop()
        await scene.restart()
        assert scene.miner.process is not None
        await asyncio.sleep(3)  # start-up is not idling
        pids = family(scene.miner.process.pid)
        before = cpu_seconds(pids)
        await asyncio.sleep(WATCH_SECONDS)
        used = (cpu_seconds(pids) - before) / WATCH_SECONDS
        assert megabytes(pids) < MAX_MEGABYTES
        assert used < MAX_CORE, f"{used:.2%} of a core"
