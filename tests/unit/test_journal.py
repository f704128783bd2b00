"""The journal holds what was appended: after a kill, after a power cut that tore it, and on a disk that is full."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from qcompute.journal import Journal


def filled(file: Path, count: int = 3) -> Journal:
    """A journal of `name-0` and so on; the documents are of different lengths."""
    journal = Journal(file, waste_bytes=0)
    for number in range(count):
        journal.append(f"name-{number}", {"number": number, "text": "é\n" * number}, at=float(number))
    return journal


def texts(journal: Journal) -> dict[str, dict[str, Any] | None]:
    """All documents by name."""
    return {name: journal.read(name) for _, name in journal.names()}


def test_a_killed_process_leaves_all_that_it_appended(tmp_path: Path) -> None:
    """Every number it has printed was appended before, none of them synced."""
    script = (
        "import itertools, pathlib, sys\nfrom qcompute.journal import Journal\n"
        "journal = Journal(pathlib.Path(sys.argv[1]))\n"
        "for number in itertools.count():\n"
        "    journal.append(f'name-{number}', {'number': number}, 0.0)\n"
        "    print(number, flush=True)\n"
    )
    with subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", script, str(tmp_path / "journal")], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        seen = [int(writer.stdout.readline()) for _ in range(200)]
        os.kill(writer.pid, signal.SIGKILL)
        seen += [int(line) for line in writer.stdout.read().splitlines()]
    journal = Journal(tmp_path / "journal")
    assert [journal.read(f"name-{number}") for number in seen] == [{"number": number} for number in seen]
    assert len(journal.names()) - len(seen) in (0, 1)
    journal.close()


def test_wherever_a_power_cut_ends_the_file_the_whole_records_before_are_there(tmp_path: Path) -> None:
    journal = filled(tmp_path / "whole")
    expected = texts(journal)
    journal.close()
    content = (tmp_path / "whole").read_bytes()
    for length in range(len(content)):
        (tmp_path / "cut").write_bytes(content[:length])
        cut = Journal(tmp_path / "cut")
        whole = content[:length].count(b"\n")
        assert texts(cut) == {f"name-{number}": expected[f"name-{number}"] for number in range(whole)}
        cut.append("next", {"is": "here"}, at=9.0)
        cut.close()
        again = Journal(tmp_path / "cut")
        assert again.read("next") == {"is": "here"}
        assert len(again.names()) == whole + 1
        again.close()


def test_what_a_killed_process_left_is_on_the_disk_before_it_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a job that was found after a kill would be gone after a power cut."""
    filled(tmp_path / "journal").close()
    sizes: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    Journal(tmp_path / "journal").close()
    assert sizes == [(tmp_path / "journal").stat().st_size]


@pytest.mark.parametrize("damage", [b"\0" * 10, b"x\ny"], ids=["zeros", "garbage"])
def test_a_broken_record_costs_none_of_the_others(tmp_path: Path, damage: bytes) -> None:
    journal = filled(tmp_path / "journal")
    journal.close()
    lines = (tmp_path / "journal").read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:20] + damage + lines[1][20 + len(damage) :]
    (tmp_path / "journal").write_bytes(b"".join(lines))
    journal = Journal(tmp_path / "journal")
    assert list(texts(journal)) == ["name-0", "name-2"]
    assert texts(journal)["name-2"] == {"number": 2, "text": "é\né\n"}
    journal.close()


def test_a_full_disk_keeps_nothing_of_the_record_and_all_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may take a part of a record before it is full."""
    journal = filled(tmp_path / "journal")
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:7]))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
        with pytest.raises(OSError, match="No space left"):
            journal.append("refused", {}, at=0.0)
    assert "refused" not in journal
    journal.append("taken", {"is": "here"}, at=0.0)
    before = texts(journal)
    journal.close()
    journal = Journal(tmp_path / "journal")
    assert texts(journal) == before
    assert list(before) == ["name-0", "name-1", "name-2", "taken"]
    journal.close()


def test_those_who_wait_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is under way ten more append; one further sync is for all of them."""
    journal = filled(tmp_path / "journal")
    under_way, go_on = threading.Event(), threading.Event()
    calls: list[int] = []
    real = os.fdatasync

    def slow(descriptor: int) -> None:
        calls.append(len(journal.names()))
        under_way.set()
        assert go_on.wait(30)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    first = threading.Thread(target=journal.sync)
    first.start()
    assert under_way.wait(30)
    for number in range(10):
        journal.append(f"more-{number}", {}, at=0.0)
    others = [threading.Thread(target=journal.sync) for _ in range(10)]
    for thread in others:
        thread.start()
    go_on.set()
    for thread in (first, *others):
        thread.join()
    assert calls == [3, 13]
    journal.close()


def test_after_a_sync_that_failed_the_file_is_written_anew_before_more_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may call pages clean that never reached the disk: a second sync that succeeds would prove nothing."""
    journal = filled(tmp_path / "journal")
    before = (tmp_path / "journal").stat().st_ino

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, f"descriptor {descriptor}")

    with monkeypatch.context() as failing:
        failing.setattr(os, "fdatasync", broken)
        with pytest.raises(OSError, match="descriptor"):
            journal.sync()
    with pytest.raises(OSError, match="Input/output"):
        journal.sync()
    journal.append("next", {}, at=0.0)
    journal.sync()
    assert (tmp_path / "journal").stat().st_ino != before
    assert list(texts(journal)) == ["name-0", "name-1", "name-2", "next"]
    journal.close()


def test_what_was_dropped_leaves_the_file(tmp_path: Path) -> None:
    journal = filled(tmp_path / "journal", count=100)
    kept = {name: document for name, document in texts(journal).items() if int(name.removeprefix("name-")) >= 90}
    for number in range(90):
        assert not (number < 50 and journal.is_wasteful)
        journal.drop(f"name-{number}")
    assert journal.is_wasteful
    size = (tmp_path / "journal").stat().st_size
    journal.compact()
    assert not journal.is_wasteful
    assert (tmp_path / "journal").stat().st_size < size / 2
    assert texts(journal) == kept
    journal.append("next", {}, at=0.0)
    expected = texts(journal)
    journal.close()
    assert [file.name for file in tmp_path.iterdir()] == ["journal"]
    journal = Journal(tmp_path / "journal")
    assert texts(journal) == expected
    journal.close()


def test_a_file_that_cannot_be_written_anew_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = filled(tmp_path / "journal")
    expected = texts(journal)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, f"descriptor {descriptor}")

    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="descriptor"):
            journal.compact()
    assert [file.name for file in tmp_path.iterdir()] == ["journal"]
    assert texts(journal) == expected
    journal.append("next", {}, at=0.0)
    journal.close()
    journal = Journal(tmp_path / "journal")
    assert list(texts(journal)) == [*expected, "next"]
    journal.close()


def test_a_draft_left_by_a_process_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "journal.draft").write_text("half of it")
    journal = filled(tmp_path / "journal")
    journal.compact()
    assert len(texts(journal)) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["journal"]
    journal.close()


def test_one_process_has_it_once(tmp_path: Path) -> None:
    """A process's own locks let it in again: two accounts of one spool would have written into each other's records."""
    journal = Journal(tmp_path / "journal")
    with pytest.raises(BlockingIOError):
        Journal(tmp_path / "journal")
    journal.append("a", {"n": 1}, at=1.0)
    journal.close()
    again = Journal(tmp_path / "journal")
    assert again.read("a") == {"n": 1}
    again.close()
