"""What several layers need of the file system and Python does not bring."""

from __future__ import annotations

import json
import os
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
