from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from qcompute.errors import ConfigError
from qcompute.ledger.lock import LedgerLock


def test_only_one_has_it_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = LedgerLock(path)
    with pytest.raises(ConfigError, match=f"Process {os.getpid()}"):
        LedgerLock(path)
    lock.release()
    LedgerLock(path).release()


def test_a_link_to_the_file_is_the_same_file(tmp_path: Path) -> None:
    lock = LedgerLock(tmp_path / "lock")
    (tmp_path / "link").symlink_to(tmp_path / "lock")
    with pytest.raises(ConfigError):
        LedgerLock(tmp_path / "link")
    lock.release()


def test_releasing_twice_does_not_take_it_from_the_next(tmp_path: Path) -> None:
    first = LedgerLock(tmp_path / "lock")
    first.release()
    second = LedgerLock(tmp_path / "lock")
    first.release()
    with pytest.raises(ConfigError):
        LedgerLock(tmp_path / "lock")
    second.release()


def test_the_file_stays_and_names_the_last_holder(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("99999999 left by a longer text")
    lock = LedgerLock(tmp_path / "lock")
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()
    assert (tmp_path / "lock").exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be created"):
        LedgerLock(tmp_path / "nowhere" / "lock")


def test_a_forked_child_does_not_keep_it(tmp_path: Path) -> None:
    """A killed daemon may leave children behind; they must not keep its successor out."""
    lock = LedgerLock(tmp_path / "lock")
    child = os.fork()
    if not child:
        signal.pause()
        os._exit(0)
    try:
        lock.release()
        LedgerLock(tmp_path / "lock").release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
