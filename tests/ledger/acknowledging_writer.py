"""A program that stores jobs as fast as it can and says which are stored. Run by ``test_sqlite_kill.py``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from qcompute.ledger import open_ledger
from qcompute.ledger.contract import Intake
from qcompute.ledger.settings import LedgerSettings
from qcompute.testing.ledger_records import new_job, own_nonce


async def main(path: Path) -> None:
    ledger = open_ledger(LedgerSettings(path=path))

    async def keep_storing(caller: int) -> None:
        number = 0
        while True:
            number += 1
            name = f"{caller}-{number}"
            if await ledger.accept(new_job(name), own_nonce(name)) is Intake.ACCEPTED:
                sys.stdout.write(f"{name}\n")
                sys.stdout.flush()

    await asyncio.gather(*(keep_storing(caller) for caller in range(8)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
