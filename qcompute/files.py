"""What several layers need of the file system and Python does not bring."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_LOOK_SECONDS: Final = 1.0
"""Whoever only looks whether a lock is held has it for less than that."""


def sync_folder(folder: Path) -> None:
    """Make what was created, linked or renamed in a folder outlast a power cut. Raises OSError when it may not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_document(file: Path, document: dict[str, Any]) -> None:
    """Put a JSON document into a file of this name, whole and outlasting a power cut. Raises OSError when it is not.

    Whoever reads meanwhile finds the one before. No two may write one file at once.
    """
    draft = file.with_name(file.name + ".partial")
    with draft.open("w", encoding="utf-8") as stream:
        json.dump(document, stream)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
    sync_folder(file.parent)


def read_document(file: Path) -> dict[str, Any] | None:
    """The JSON document in a file; None where there is no file, or none that is whole."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def write_private(path: Path, content: bytes) -> None:
    """Replace a file by ``content``, whole or not at all, readable by its owner alone, on disk when this returns.

    Raises:
        OSError: it could not be written; the old file, if there was one, is as it was.
    """
    with _private_draft(path, content) as draft:
        draft.replace(path)
    sync_folder(path.parent)


def create_private(path: Path, content: bytes) -> None:
    """As `write_private` for a file that is not there yet; of two that make it at once, one does.

    Raises:
        FileExistsError: it is there, whole, and is as it was.
        OSError: it could not be written, and is not there.
    """
    with _private_draft(path, content) as draft:
        os.link(draft, path)
    sync_folder(path.parent)


@contextmanager
def _private_draft(path: Path, content: bytes) -> Generator[Path]:
    """A file beside ``path`` with the content on disk, gone afterwards unless it was given a name of its own."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Generator[None]:
    """Hold the lock that this file stands for; waits while another process or thread has it.

    The file stays: whoever removed it would let two hold the lock at once.

    Raises:
        OSError: the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def hold(path: Path) -> int:
    """Take the lock that this file stands for, until the descriptor that is returned is closed, or this process ends.

    No two have it at once, also not in one process. A child does not get it.

    Raises:
        BlockingIOError: another has it.
        OSError: the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _LOOK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise
            time.sleep(_LOOK_SECONDS / 20)
        else:
            return descriptor


def is_held(path: Path) -> bool:
    """Whether anybody has the lock of `hold` now, also this process."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
