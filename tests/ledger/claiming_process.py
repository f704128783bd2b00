"""A process that claims a lane and pays, told what to do line by line; it says what it did.

    python -m tests.ledger.claiming_process URL KEY LANE enforce|free

``take`` takes the lane, waiting for it; ``pay PORT`` enters a paid call, says ``paying``, and connects to the vendor at
the port once another line has come; ``held`` says whether the lane is ours; ``end`` lets it go.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from qcompute.ledger.claims import NotOurs, Tenure
from qcompute.ledger.postgres import PostgresLedger
from qcompute.ledger.settings import LedgerSettings

PAYMENT: Final = b"charge me\n"


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201 - how it talks


def pay(ledger: PostgresLedger, tenure: Tenure, port: int) -> None:
    """The paid call, in a thread as the provider's are."""
    try:
        with ledger.claims.paid_call(tenure):
            say("paying")
            sys.stdin.readline()
            with socket.create_connection(("127.0.0.1", port), timeout=5) as vendor:
                vendor.sendall(PAYMENT)
    except NotOurs:
        say("not ours")
    else:
        say("paid")  # out of the call: whoever hears it may stop us


async def taken(ledger: PostgresLedger, lane: str) -> Tenure:
    while True:
        if (tenure := await ledger.claims.take(lane)) is not None:
            say("taken", tenure.fence, time.time())
            return tenure
        await asyncio.sleep(0.05)


async def main(url: str, key: str, lane: str, enforce: str) -> None:
    settings = LedgerSettings(path=Path(key).with_name("l"), url=SecretStr(url), key_file=Path(key))
    ledger = PostgresLedger(settings, alone=False, enforce=enforce == "enforce")
    say("ready")
    tenure: Tenure | None = None
    lost: asyncio.Task[None] | None = None
    while True:
        match (await asyncio.to_thread(sys.stdin.readline)).split():
            case ["take"]:
                tenure = await taken(ledger, lane)
                lost = asyncio.create_task(ledger.claims.wait_until_lost(tenure))
                lost.add_done_callback(lambda task: None if task.cancelled() else say("lost"))
            case ["pay", port] if tenure is not None:
                paying = threading.Thread(target=pay, args=(ledger, tenure, int(port)))
                paying.start()
                await asyncio.to_thread(paying.join)
            case ["held"] if tenure is not None:
                say("held" if ledger.claims.is_held(tenure) else "not held")
            case ["end"] | []:
                break
            case other:
                raise ValueError(other)
    if lost is not None:
        lost.cancel()
    if tenure is not None:
        await ledger.claims.let_go(tenure)
    await ledger.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(*sys.argv[1:]))
