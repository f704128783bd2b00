"""What was acknowledged survives the end of the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompute.ledger.contract import Intake
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.job import State
from qcompute.testing.ledger_records import SIGNED_URL, new_job, own_nonce
from qcompute.units import ExecutionId, utc_now
from tests.ledger.database_side import python


def acknowledged_before_a_kill(path: Path, enough: int) -> list[str]:
    """Run the writer, kill it after so many acknowledgements, and return all it gave."""
    with python("-m", "tests.ledger.acknowledging_writer", str(path)) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(enough)]
        writer.kill()
        lines += writer.stdout.readlines()
    assert writer.returncode == -9
    return [line.strip() for line in lines if line.endswith("\n")]


@pytest.mark.parametrize("enough", [1, 100, 333])
async def test_every_acknowledged_job_is_there_after_kill_9(settings: LedgerSettings, enough: int) -> None:
    acknowledged = acknowledged_before_a_kill(settings.file, enough)
    assert len(acknowledged) >= enough
    ledger = SqliteLedger(settings)
    for name in acknowledged:
        job = await ledger.get(ExecutionId(name))
        assert job is not None
        assert (job.state, job.input_data_url) == (State.ACCEPTED, SIGNED_URL)
        assert not await ledger.use_nonce(own_nonce(name))
    assert await ledger.accept(new_job(acknowledged[-1]), own_nonce("again")) is Intake.DUPLICATE
    counts = await ledger.count_by_state()
    assert counts[State.ACCEPTED] == len(await ledger.due(State.ACCEPTED, utc_now(), 1_000_000))
    await ledger.close()
