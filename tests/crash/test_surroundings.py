"""The cheap part of ``python -m tests.crash.surroundings``, and what that can see at all."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from qcompute.units import ExecutionId
from tests.crash.surroundings import run_during, run_start
from tests.crash.surroundings_disk import small_disk
from tests.crash.surroundings_judge import damage, missing
from tests.crash.surroundings_troubles import DURING, STARTS, StartTrouble, Trouble


@pytest.mark.parametrize("trouble", [one for one in DURING if one.sampled], ids=lambda one: one.name)
async def test_a_daemon_at_work_bears_it(trouble: Trouble, tmp_path: Path) -> None:
    """A clock set back stopped every row until the time it had been due came round again."""
    seen = await run_during(trouble, tmp_path)
    assert seen.wrong == []


@pytest.mark.parametrize("trouble", [one for one in STARTS if one.sampled], ids=lambda one: one.name)
async def test_a_start_in_vain_says_why(trouble: StartTrouble, tmp_path: Path) -> None:
    """A database that was read-only or locked, or a ready file that could not be written, showed a traceback."""
    seen = await run_start(trouble, tmp_path)
    assert seen.wrong == []


def test_a_small_disk_is_really_full(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data", mebibytes=1) as disk:
        disk.fill()
        with pytest.raises(OSError, match="No space left") as refused:
            (disk.outside / "one-more").write_bytes(b"x")
        assert refused.value.errno == errno.ENOSPC
        disk.free()
        (disk.outside / "one-more").write_bytes(b"x")


def test_a_lost_row_and_a_damaged_page_are_seen(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    with sqlite3.connect(ledger) as connection:
        connection.execute("CREATE TABLE jobs (execution_id TEXT PRIMARY KEY, more BLOB)")
        connection.executemany("INSERT INTO jobs VALUES (?, ?)", [(f"job-{n}", bytes(3000)) for n in range(40)])
    connection.close()
    assert missing(ledger, [ExecutionId("job-1")]) == []
    assert missing(ledger, [ExecutionId("job-1"), ExecutionId("lost")]) == ["1 accepted jobs have no row"]
    assert damage(ledger) == []
    whole = bytearray(ledger.read_bytes())
    whole[8192:8292] = b"\xff" * 100
    ledger.write_bytes(whole)
    assert damage(ledger) != []
