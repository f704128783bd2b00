"""A program that closes jobs in a shared Postgres ledger and says which. Run by ``test_postgres_shared.py``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pydantic import SecretStr

from qcompute.ledger.postgres import PostgresLedger
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import State
from qcompute.testing.ledger_records import brought_to


async def main(prefix: str, url: str, key_file: Path, count: int) -> None:
    ledger = PostgresLedger(LedgerSettings(path=key_file, url=SecretStr(url), key_file=key_file), alone=False)

    async def close(caller: int) -> None:
        for number in range(count // 4):
            name = f"{prefix}{caller}-{number}"
            await brought_to(ledger, name, State.CLOSED)
            sys.stdout.write(f"{name}\n")

    await asyncio.gather(*(close(caller) for caller in range(4)))
    await ledger.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
