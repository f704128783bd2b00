"""Strangers' connections against the number of files a process may open, which most systems set to 1,024."""

from __future__ import annotations

import asyncio
import resource
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.scene import running_scene

USUAL_FILES: Final = 1024
CONNECTIONS: Final = 1020
HELD_SECONDS: Final = "60"


async def few_files() -> str:
    """What went wrong while a job was brought, run and collected among idle connections; empty when nothing did."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        with _usual_limit():
            scene_context = running_scene(
                Path(folder),
                environment={
                    "QCOMPUTE_AXON__HEAD_TIMEOUT_SECONDS": HELD_SECONDS,
                    "QCOMPUTE_AXON__MAX_CONNECTIONS": "1100",
                },
            )
            scene = await scene_context.__aenter__()
        writers: list[asyncio.StreamWriter] = []
        try:
            for _ in range(CONNECTIONS):
                _, writer = await asyncio.open_connection("127.0.0.1", scene.miner.axon_port)
                writers.append(writer)
            scene.add_jobs(1)
            await scene.hand_over(1)
            await scene.collected(1, seconds=20.0)
        except (AssertionError, OSError) as error:
            return f"{type(error).__name__}: {str(error)[:120]}"
        finally:
            for writer in writers:
                writer.close()
            await scene_context.__aexit__(None, None, None)
    return ""


@contextmanager
def _usual_limit() -> Generator[None, None, None]:
    """Processes started within get the usual soft limit; the hard one stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_FILES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
