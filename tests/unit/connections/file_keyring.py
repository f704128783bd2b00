"""A keyring backend of this test's own: real code of ``keyring`` finds and calls it, its values lie in a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError
from typing_extensions import override


class FileKeyring(KeyringBackend):
    """``TEST_KEYRING`` names the file; while ``FILE.locked`` is there it fails.

    The library offers every class it has seen to the whole process, so this one is no good until a test says it is.
    """

    priority: Any = -1

    @override
    def get_password(self, service: str, username: str) -> str | None:
        return self._all().get(f"{service}/{username}")

    @override
    def set_password(self, service: str, username: str, password: str) -> None:
        self._keep({**self._all(), f"{service}/{username}": password})

    @override
    def delete_password(self, service: str, username: str) -> None:
        values = self._all()
        if values.pop(f"{service}/{username}", None) is None:
            raise PasswordDeleteError(username)
        self._keep(values)

    def _all(self) -> dict[str, str]:
        file = Path(os.environ["TEST_KEYRING"])
        if file.with_name(f"{file.name}.locked").exists():
            raise KeyringLocked
        return json.loads(file.read_text()) if file.exists() else {}

    def _keep(self, values: dict[str, str]) -> None:
        Path(os.environ["TEST_KEYRING"]).write_text(json.dumps(values))


class Forgetful(FileKeyring):
    """Takes everything and keeps nothing."""

    @override
    def _keep(self, values: dict[str, str]) -> None:
        del values

    @override
    def delete_password(self, service: str, username: str) -> None:
        del service, username
