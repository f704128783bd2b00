"""What several layers need of the file system and Python does not bring."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


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
