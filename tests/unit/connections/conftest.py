"""A process that looks for its secrets in the environment alone, before and after each test."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend

from qcompute.connections.credentials import look_in
from tests.unit.connections.file_keyring import FileKeyring, Forgetful


@pytest.fixture(autouse=True)
def no_places() -> Generator[None]:
    look_in([])
    yield
    look_in([])


@pytest.fixture
def use_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[[KeyringBackend], Path]]:
    """Makes a backend the system's keyring; returns the file of its values."""
    before = keyring.get_keyring()
    file = tmp_path / "keyring.json"
    monkeypatch.setenv("TEST_KEYRING", str(file))

    def use(backend: KeyringBackend) -> Path:
        if isinstance(backend, FileKeyring):
            backend.priority = 5
        keyring.set_keyring(backend)
        return file

    yield use
    keyring.set_keyring(before)


@pytest.fixture
def keyring_file(use_keyring: Callable[[KeyringBackend], Path]) -> Path:
    return use_keyring(FileKeyring())


@pytest.fixture
def forgetful_keyring(use_keyring: Callable[[KeyringBackend], Path]) -> Path:
    return use_keyring(Forgetful())
