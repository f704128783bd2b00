"""A program that stores jobs as fast as it can and says which are stored.

Its arguments are a SQLite file, or the URL of a Postgres database and its key file.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pydantic import SecretStr

from qcompute.ledger import open_ledger
from qcompute.ledger.contract import Intake
from qcompute.ledger.settings import LedgerSettings
from qcompute.testing.ledger_records import new_job, own_nonce


async def main(settings: LedgerSettings) -> None:
    ledger = open_ledger(settings)

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
    if len(sys.argv) == 2:
        asyncio.run(main(LedgerSettings(path=Path(sys.argv[1]))))
    else:
        asyncio.run(main(LedgerSettings(url=SecretStr(sys.argv[1]), key_file=Path(sys.argv[2]))))
