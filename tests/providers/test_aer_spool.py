"""The Aer adapter's spool forgets what is old or too much, and never what has not ended."""

from __future__ import annotations

import time
from pathlib import Path

from qcompute.vendor.aer.spool import Spool

DAY = 86400.0


def add(spool: Spool, job_id: str, *, days_old: float = 0.0, ended: float | None = 0.0) -> None:
    """A job, and a result ``ended`` days ago."""
    spool.add(job_id, {"created": time.time() - days_old * DAY, "text": "x" * 50})
    if ended is not None:
        spool.end(job_id, {"status": "COMPLETED", "of": job_id, "ended": time.time() - ended * DAY})


def test_old_jobs_that_ended_are_forgotten_while_the_daemon_runs(tmp_path: Path) -> None:
    """By when they ended: a daemon that was away for a week simulates an old job, and somebody waits for that."""
    spool = Spool(tmp_path, keep_days=3)
    add(spool, "old", days_old=4, ended=3.5)
    add(spool, "waits", days_old=5, ended=None)
    add(spool, "young", days_old=6, ended=2)
    spool.sync()
    assert [spool.has(job_id) for job_id in ("old", "waits", "young")] == [False, True, True]
    assert spool.result("old") is None
    spool.close()
    spool = Spool(tmp_path, keep_days=3)
    assert [spool.has(job_id) for job_id in ("old", "waits", "young")] == [False, True, True]
    assert spool.unfinished() == ["waits"]
    assert (spool.result("young") or {})["of"] == "young"
    spool.close()


def test_of_many_jobs_that_ended_the_last_are_kept(tmp_path: Path) -> None:
    """Where each lies is kept in memory, so there is a most of them."""
    spool = Spool(tmp_path, keep_days=3, most_ended=10)
    add(spool, "waits", ended=None)
    for number in range(25):
        add(spool, f"job-{number}")
    spool.sync()
    assert [number for number in range(25) if spool.has(f"job-{number}")] == list(range(15, 25))
    assert spool.has("waits")
    spool.close()


def test_unfinished_jobs_come_back_oldest_first(tmp_path: Path) -> None:
    spool = Spool(tmp_path, keep_days=3)
    for job_id, age in (("second", 1.0), ("third", 0.5), ("first", 2.0)):
        add(spool, job_id, days_old=age, ended=None)
    add(spool, "ended", days_old=1.5)
    spool.close()
    spool = Spool(tmp_path, keep_days=3)
    assert spool.unfinished() == ["first", "second", "third"]
    spool.close()


def test_a_take_over_that_was_cut_short_is_finished_and_makes_no_second_job(tmp_path: Path) -> None:
    """The process died when the journal had the job and the old file was still there."""
    spool = Spool(tmp_path, keep_days=3)
    add(spool, "both")
    spool.close()
    (tmp_path / "both.job.json").write_text('{"created": 17, "text": "the old one"}')
    spool = Spool(tmp_path, keep_days=3)
    assert (spool.job("both") or {})["text"] == "x" * 50
    assert (spool.result("both") or {})["of"] == "both"
    assert [file.name for file in tmp_path.iterdir()] == ["jobs.journal"]
    spool.close()
