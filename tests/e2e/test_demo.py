"""``make demo`` ends well, and by itself."""

from __future__ import annotations

import asyncio
import os
import sys


async def test_the_demo_ends_with_every_job_right() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("QCOMPUTE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "qcompute.local.demo",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment | {"NO_COLOR": "1"},
    )
    async with asyncio.timeout(110):
        output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    assert text.count("verified  yes") == 5
    assert "Online -> Offline" in text
    assert "010  " in text
