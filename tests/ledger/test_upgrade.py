"""Ledgers written by every earlier schema, with a job in each state, are read by today's code as they were meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompute.ledger.check import check_ledger
from qcompute.ledger.schema import REVISIONS
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.job import State, Verdict
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_records import SIGNED_URL
from qcompute.units import ExecutionId
from tests.ledger.database_side import run_sql
from tests.ledger.old_ledgers import EARLIER, dump_of, lay_down
from tests.ledger.whole_jobs import CIRCUIT, OUTCOME, whole_job


def test_every_earlier_schema_has_its_ledger() -> None:
    assert [revision for revision in EARLIER if not dump_of(revision).exists()] == [], "see tests/ledger/old_ledgers.py"


@pytest.fixture(params=EARLIER)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerSettings:
    """A ledger of an earlier schema."""
    settings = LedgerSettings(path=tmp_path / "ledger.sqlite3")
    lay_down(request.param, settings.file)
    assert run_sql(settings, "SELECT version_num FROM alembic_version") == [(request.param,)]
    return settings


async def test_every_row_is_read_with_all_its_parts(settings: LedgerSettings) -> None:
    ledger = SqliteLedger(settings)
    assert run_sql(settings, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]
    assert await ledger.count_by_state() == dict.fromkeys(State, 1)
    jobs = {state: await ledger.get(ExecutionId(f"job-{state}")) for state in State}
    for state, job in jobs.items():
        assert job is not None, state
        assert job.state is state
        assert job.shots == 100
        ended = state in {State.SETTLED, State.CLOSED}
        assert job.verdict is (Verdict.SUCCEEDED if ended else None)
        assert job.input_data_url == (SIGNED_URL if state is State.ACCEPTED else None)
        assert await ledger.circuit(job.execution_id) == (None if state is State.ACCEPTED else CIRCUIT)
        assert await ledger.outcome(job.execution_id) == (OUTCOME if ended else None)
        assert (await ledger.receipt(job.execution_id) is not None) is ended
    waiting = jobs[State.WAITING]
    assert waiting is not None
    assert waiting.handle == {"provider_job_id": "vendor-job-waiting", "device_id": "mock_qpu_1"}
    await ledger.close()


async def test_work_goes_on_and_nothing_is_found_wrong_before_or_after(settings: LedgerSettings) -> None:
    assert check_ledger(settings.file).problems == []
    ledger = SqliteLedger(settings)
    page = await ledger.finished_after(FIRST_CURSOR, 10)
    assert [job.execution_id for job in page.jobs] == ["job-closed"]
    await whole_job(ledger, "new", State.CLOSED)
    assert [job.execution_id for job in (await ledger.finished_after(page.cursor, 10)).jobs] == ["new"]
    await ledger.close()
    assert check_ledger(settings.file).problems == []
