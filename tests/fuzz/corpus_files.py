"""The kept corpus: ``corpus/<target>/*``, small files that together reach what a target can reach."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "corpus"
MAX_FILES: Final = 200
MAX_BYTES: Final = 1024


def kept(target: str) -> list[Path]:
    """The target's files, in a fixed order."""
    return sorted(file for file in (FOLDER / target).iterdir() if file.is_file())


def add(target: str, data: bytes) -> Path:
    """Keep one more input, under the name its content gives it."""
    file = FOLDER / target / hashlib.sha256(data).hexdigest()[:16]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file
