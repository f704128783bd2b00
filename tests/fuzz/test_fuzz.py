"""The kept corpus through every target, without a fuzzer: what was found once stays fixed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.corpus_files import MAX_BYTES, MAX_FILES, kept
from tests.fuzz.targets import TARGETS


def name_of(file: Path) -> str:
    return file.name


@pytest.mark.parametrize("target", TARGETS)
def test_a_corpus_is_kept_and_small(target: str) -> None:
    files = kept(target)
    assert 5 <= len(files) <= MAX_FILES
    assert max(file.stat().st_size for file in files) <= MAX_BYTES


@pytest.mark.parametrize("target", TARGETS)
def test_no_kept_input_breaks_a_promise(target: str) -> None:
    for file in kept(target):
        TARGETS[target](file.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_takes_any_bytes(target: str) -> None:
    for data in (b"", b"\0", bytes(range(256)), b"\xff" * 4096, b"\n\n", "\u2028é".encode()):
        TARGETS[target](data)
