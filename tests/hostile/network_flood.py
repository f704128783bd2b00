"""Silent connections, each made anew when it ends, by a process of its own: ``PORT COUNT SECONDS``."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import Final

ELSEWHERE: Final = ("127.0.0.2", 0)
"""Where floods come from; the honest validator has an address of its own, as in life."""
AGAIN_SECONDS: Final = 0.2


async def flood(port: int, count: int, seconds: float) -> None:
    """Hold ``count`` connections for so long; each is made again 0.2 s after it was cut."""
    until = time.monotonic() + seconds
    await asyncio.gather(*(_one(port, until) for _ in range(count)))


async def _one(port: int, until: float) -> None:
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(left):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=ELSEWHERE)
                try:
                    await reader.read()
                finally:
                    writer.close()
        await asyncio.sleep(AGAIN_SECONDS)


if __name__ == "__main__":
    asyncio.run(flood(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
