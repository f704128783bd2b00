"""A document is the one before or the new one, whatever happens in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qcompute import files
from qcompute.files import create_private, hold, is_held, read_document, write_document


def test_a_document_is_read_as_it_was_written_and_none_is_none(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    assert read_document(file) is None
    write_document(file, {"shots": 100, "name": "ÿ"})
    write_document(file, {"shots": 200})
    assert read_document(file) == {"shots": 200}
    assert [one.name for one in tmp_path.iterdir()] == ["job.json"]
    file.write_text('{"shots": 2')
    assert read_document(file) is None, "what a power cut has torn"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_what_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    file = tmp_path / "job.json"
    write_document(file, {"shots": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", full) if step == "fsync" else (Path, "replace", full)))
    with pytest.raises(OSError, match="No space"):
        write_document(file, {"shots": 2})
    assert read_document(file) == {"shots": 1}


def test_content_and_name_are_synced_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that outlives a power cut must not be of a file whose content did not."""
    done: list[str] = []
    replace = Path.replace

    def replaced(draft: Path, target: Path) -> Path:
        done.append("name")
        return replace(draft, target)

    def content(_: int) -> None:
        done.append("content")

    def folder(_: Path) -> None:
        done.append("folder")

    monkeypatch.setattr(os, "fsync", content)
    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(files, "sync_folder", folder)
    write_document(tmp_path / "job.json", {})
    assert done == ["content", "name", "folder"]


def test_what_is_there_is_not_replaced_by_who_only_creates(tmp_path: Path) -> None:
    file = tmp_path / "token"
    create_private(file, b"first")
    with pytest.raises(FileExistsError):
        create_private(file, b"second")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"first", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_lock_is_held_once_and_seen_by_whoever_looks(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_held(lock)
    descriptor = hold(lock)
    assert is_held(lock)
    with pytest.raises(BlockingIOError):
        hold(lock)
    os.close(descriptor)
    assert not is_held(lock)
    os.close(hold(lock))
