from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from qcompute.errors import ConfigError, StoreError
from qcompute.ledger.secretbox import SecretBox, create_box, load_box

SECRET = "https://bucket.example/ü?sig=1"


def test_what_was_sealed_comes_out_again_also_with_the_stored_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    sealed = create_box(path).seal(SECRET)
    stored = load_box(path)
    assert stored is not None
    assert stored.open(sealed) == SECRET
    assert b"bucket" not in sealed


def test_sealing_twice_gives_different_texts(tmp_path: Path) -> None:
    box = create_box(tmp_path / "key")
    assert box.seal(SECRET) != box.seal(SECRET)


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    sealed = create_box(tmp_path / "one").seal(SECRET)
    with pytest.raises(StoreError, match="another key"):
        create_box(tmp_path / "two").open(sealed)


def test_a_changed_ciphertext_is_noticed(tmp_path: Path) -> None:
    box = create_box(tmp_path / "key")
    sealed = bytearray(box.seal(SECRET))
    sealed[20] ^= 1
    with pytest.raises(StoreError):
        box.open(bytes(sealed))


def test_a_new_key_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        create_box(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_an_existing_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key"
    create_box(path)
    key = path.read_bytes()
    with pytest.raises(ConfigError, match="cannot be created"):
        create_box(path)
    assert path.read_bytes() == key
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_there_is_no_box_without_a_file(tmp_path: Path) -> None:
    assert load_box(tmp_path / "key") is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_others_may_read_is_refused_with_the_fix(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    create_box(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_box(path)


@pytest.mark.parametrize("content", [b"", b"not a key", b"\xff" * 44])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="no ledger key"):
        load_box(path)


def test_a_key_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_box(tmp_path / "key")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be created"):
        create_box(tmp_path / "nowhere" / "key")


def test_a_box_does_not_show_its_key(tmp_path: Path) -> None:
    create_box(tmp_path / "key")
    key = (tmp_path / "key").read_bytes().strip()
    assert key.decode() not in repr(SecretBox(key))
