"""Taking over the reference miner's database: validators go on collecting, and nothing is submitted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from qcompute.errors import ConfigError
from qcompute.ledger.check import check_ledger
from qcompute.ledger.import_reference import Became, Imported, ImportPlan, import_reference
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.intake import finished
from qcompute.miner.job import CostKind, State, Verdict
from qcompute.protocol import FIRST_CURSOR, ExecutionStatus
from qcompute.units import ExecutionId, ProviderKey
from tests.ledger.reference_file import NOW, at, completed, failed, under_way, write
from tests.ledger.whole_jobs import whole_job

PLAN = ImportPlan(
    now=NOW,
    retention=timedelta(days=14),
    job_deadline=timedelta(days=7),
    held_deadline=timedelta(days=1),
    providers=["mock", "ibm"],
)

ROWS: list[dict[str, Any]] = [
    completed("third", 60),
    completed("first", 3600),
    failed("second", 120, "calibration failed"),
    completed("fourth", 60, cost=None, timestamps_json=None, metadata_json="[]", provider=None),
    failed("fifth", 50, None, validator_hotkey=None),
]
IN_ORDER = ["first", "second", "third", "fourth", "fifth"]


@pytest.fixture
def settings(tmp_path: Path) -> LedgerSettings:
    return LedgerSettings(path=tmp_path / "ledger.sqlite3")


def taken(tmp_path: Path, settings: LedgerSettings, rows: list[dict[str, Any]], plan: ImportPlan = PLAN) -> Imported:
    file = tmp_path / f"reference-{len(list(tmp_path.iterdir()))}.db"
    return import_reference(write(file, rows), settings, plan)


async def collected(settings: LedgerSettings, cursor: str) -> list[str]:
    ledger = SqliteLedger(settings)
    page = await ledger.finished_after(cursor, 1000)
    await ledger.close()
    return [job.execution_id for job in page.jobs]


async def test_finished_jobs_are_collected_as_the_reference_would_have_given_them(
    tmp_path: Path, settings: LedgerSettings
) -> None:
    assert taken(tmp_path, settings, ROWS).counts == {Became.CLOSED: 5}
    ledger = SqliteLedger(settings)
    rows = {row.execution_id: row for row in map(finished, (await ledger.finished_after(FIRST_CURSOR, 10)).jobs)}
    assert list(rows) == IN_ORDER
    assert rows["first"].status is ExecutionStatus.COMPLETED
    assert rows["first"].upload_data_id == "up-first"
    assert rows["first"].execution_data == {"provider_job_id": "theirs-first"}
    assert (rows["first"].shots, rows["second"].shots) == (100, 0)
    assert (rows["second"].status, rows["second"].errorMessage) == (ExecutionStatus.FAILED, "calibration failed")
    assert rows["fifth"].errorMessage == "Miner reported failure"
    outcome = await ledger.outcome(ExecutionId("first"))
    assert outcome is not None
    assert (str(outcome.cost), outcome.cost_kind) == ("1.25 USD", CostKind.VENDOR_ESTIMATE)
    assert outcome.timestamps == {"createdAt": "x"}
    await ledger.close()
    assert check_ledger(settings.file).problems == []


@pytest.mark.parametrize(
    ("cursor", "expected"),
    [
        (FIRST_CURSOR, IN_ORDER),
        (at(7200), IN_ORDER),
        (at(3599), IN_ORDER[1:]),
        (at(61), IN_ORDER[2:]),
        (at(60), IN_ORDER[2:]),
        (at(59), IN_ORDER[4:]),
        (at(49), []),
    ],
    # Not the times themselves: processes that collect these tests in different seconds would name them differently.
    ids=["first", "2 h", "3599 s", "61 s", "60 s", "59 s", "49 s"],
)
async def test_an_old_cursor_misses_nothing_and_gets_nothing_from_before_its_second(
    tmp_path: Path, settings: LedgerSettings, cursor: str, expected: list[str]
) -> None:
    taken(tmp_path, settings, ROWS)
    assert await collected(settings, cursor) == expected


async def test_the_next_job_closed_here_comes_behind_them(tmp_path: Path, settings: LedgerSettings) -> None:
    taken(tmp_path, settings, ROWS)
    ledger = SqliteLedger(settings)
    cursor = (await ledger.finished_after(at(55), 10)).cursor
    await whole_job(ledger, "ours", State.CLOSED)
    assert [job.execution_id for job in (await ledger.finished_after(cursor, 10)).jobs] == ["ours"]
    await ledger.close()
    assert check_ledger(settings.file).problems == []


async def test_into_a_ledger_with_closed_jobs_they_come_last_and_are_missed_by_nobody(
    tmp_path: Path, settings: LedgerSettings
) -> None:
    ledger = SqliteLedger(settings)
    await whole_job(ledger, "ours", State.CLOSED)
    cursor = (await ledger.finished_after(FIRST_CURSOR, 10)).cursor
    await ledger.close()
    taken(tmp_path, settings, ROWS)
    assert await collected(settings, cursor) == IN_ORDER
    assert set(await collected(settings, at(55))) >= {"ours", "fifth"}
    assert check_ledger(settings.file).problems == []


async def test_jobs_under_way_wait_for_their_vendor_or_for_the_operator(
    tmp_path: Path, settings: LedgerSettings
) -> None:
    rows = [
        under_way("known", 30, "Running", provider="Mock", provider_job_id="v1", device_id="mock_qpu_1"),
        under_way("unnamed", 30, "Queued", provider_job_id="v2", device_id="d"),
        under_way("foreign", 30, "Queued", provider="openquantum", provider_job_id="v3"),
        under_way("lost", 30, "Pending"),
    ]
    counts = taken(tmp_path, settings, rows).counts
    assert counts == {Became.WAITING: 1, Became.HELD: 3}
    ledger = SqliteLedger(settings)
    jobs = {name: await ledger.get(ExecutionId(name)) for name in ("known", "unnamed", "foreign", "lost")}
    known = jobs["known"]
    assert known is not None
    assert (known.state, known.provider, known.provider_job_id) == (State.WAITING, "mock", "v1")
    assert known.handle == {"provider_job_id": "v1", "device_id": "mock_qpu_1"}
    assert (known.due_at, known.deadline_at) == (NOW, NOW + PLAN.job_deadline)
    for name, words in {"unnamed": "job v2", "foreign": "openquantum", "lost": "was submitting it"}.items():
        job = jobs[name]
        assert job is not None
        assert (job.state, job.error_code) == (State.HELD, "imported")
        assert words in (job.error or "")
        assert job.submit_started_at is not None, "nothing taken over may ever be submitted"
        assert job.due_at == NOW + PLAN.held_deadline
    await ledger.close()
    assert check_ledger(settings.file).problems == []


async def test_an_operator_can_say_which_adapter_knows_the_jobs_under_way(
    tmp_path: Path, settings: LedgerSettings
) -> None:
    rows = [under_way("unnamed", 30, "Queued", provider_job_id="v2", device_id="d")]
    assert taken(tmp_path, settings, rows, replace(PLAN, as_provider=ProviderKey("ibm"))).counts == {Became.WAITING: 1}


async def test_a_second_import_takes_over_only_what_is_new(tmp_path: Path, settings: LedgerSettings) -> None:
    taken(tmp_path, settings, ROWS)
    ledger = SqliteLedger(settings)
    before = await ledger.get(ExecutionId("second"))
    await ledger.close()
    more = taken(tmp_path, settings, [*ROWS, completed("sixth", 10)])
    assert more.counts == {Became.KNOWN: 5, Became.CLOSED: 1}
    assert await collected(settings, FIRST_CURSOR) == [*IN_ORDER, "sixth"]
    ledger = SqliteLedger(settings)
    assert await ledger.get(ExecutionId("second")) == before
    await ledger.close()


async def test_a_dry_run_counts_and_changes_nothing(tmp_path: Path, settings: LedgerSettings) -> None:
    file = write(tmp_path / "reference.db", ROWS)
    assert import_reference(file, settings, PLAN, dry_run=True).counts == {Became.CLOSED: 5}
    assert not settings.file.exists()
    import_reference(file, settings, PLAN)
    before = settings.file.read_bytes()
    assert import_reference(file, settings, PLAN, dry_run=True).counts == {Became.KNOWN: 5}
    assert settings.file.read_bytes() == before


def test_what_is_past_its_retention_is_left_out(tmp_path: Path, settings: LedgerSettings) -> None:
    rows = [completed("old", 15 * 86400), completed("young", 13 * 86400)]
    assert taken(tmp_path, settings, rows).counts == {Became.CLOSED: 1, Became.OLD: 1}


async def test_a_signed_upload_url_in_an_error_is_cut(tmp_path: Path, settings: LedgerSettings) -> None:
    """The reference stores ``requests``' errors, which carry the presigned URL, and gives them to every validator."""
    url = "https://bucket.example/result?X-Amz-Signature=c0ffee"
    taken(tmp_path, settings, [failed("leaky", 5, f"403 Client Error: Forbidden for url: {url}")])
    ledger = SqliteLedger(settings)
    job = await ledger.get(ExecutionId("leaky"))
    outcome = await ledger.outcome(ExecutionId("leaky"))
    await ledger.close()
    assert job is not None
    assert outcome is not None
    assert job.verdict is Verdict.FAILED
    assert job.error == outcome.message == "403 Client Error: Forbidden for url: https://bucket.example/result"
    assert b"c0ffee" not in settings.file.read_bytes()


@pytest.mark.parametrize(
    ("oddity", "words"),
    [
        ({"timestamp": "2026-11-21T02:46:51"}, "timestamp is not YYYY-MM-DD"),
        ({"timestamp": 1795224720}, "timestamp is not YYYY-MM-DD"),
        ({"timestamp": "2026-13-21 02:46:51"}, "timestamp is no time"),
        ({"timestamp": None}, "timestamp is not YYYY-MM-DD"),
        ({"timestamp": at(-7200)}, "ahead of this machine's clock"),
        ({"status": "Cancelled"}, "none of the reference's five"),
        ({"execution_id": "../etc"}, "execution_id is not one"),
        ({"shots": "many"}, "no number of shots"),
        ({"shots": -1}, "no number of shots"),
        ({"upload_data_id": b"\x00"}, "upload_data_id is no text"),
    ],
)
async def test_a_row_that_is_not_understood_stops_the_import_unless_it_may_be_left_out(
    tmp_path: Path, settings: LedgerSettings, oddity: dict[str, Any], words: str
) -> None:
    rows = [*ROWS, completed("odd", 5) | oddity]
    with pytest.raises(ConfigError, match=words) as raised:
        taken(tmp_path, settings, rows)
    assert "--skip-unreadable" in raised.value.message
    assert not settings.file.exists()
    result = taken(tmp_path, settings, rows, replace(PLAN, skip_unreadable=True))
    assert result.counts == {Became.CLOSED: 5, Became.UNREADABLE: 1}
    assert await collected(settings, FIRST_CURSOR) == IN_ORDER


def test_another_file_is_refused_by_what_it_lacks(tmp_path: Path, settings: LedgerSettings) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no database " * 500)
    for file, words in (
        (tmp_path / "missing.db", "there is no file"),
        (text, "cannot be read as a SQLite database"),
        (write(tmp_path / "short.db", [], without="errorMessage"), "no column errorMessage"),
    ):
        with pytest.raises(ConfigError, match=words):
            import_reference(file, settings, PLAN)
    ledger = tmp_path / "ours.sqlite3"
    ledger.touch()
    with pytest.raises(ConfigError, match="no table executions"):
        import_reference(ledger, settings, PLAN)
