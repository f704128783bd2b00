"""Encryption at rest of the URLs circuits are fetched from: presigned URLs let anyone who reads them fetch.

The key is one Fernet key (AES-128-CBC with HMAC-SHA256) in a file of mode 0600 beside the database, so a copy of the
database alone, its write-ahead log included, shows no URL. Whoever has both files can read what was not yet wiped.

Wiping sets the column to NULL; the old ciphertext then stays in freed pages and in the log until they are used again.
``PRAGMA secure_delete`` would zero those pages at the cost of writing each of them once more, but what lies there is
useless without the key, and with the key the thief could have read the row an hour earlier; presigned URLs expire
meanwhile. So it is left off.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from qcompute.errors import ConfigError, StoreError
from qcompute.files import create_private


class SecretBox:
    """Seals and opens short texts with one key; may be used from several threads."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)

    def seal(self, text: str) -> bytes:
        """The text as ciphertext; sealing twice gives different ones."""
        return self._fernet.encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        """The text again.

        Raises:
            StoreError: it was sealed with another key, or changed.
        """
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise StoreError("a stored URL cannot be decrypted: it was changed, or sealed with another key") from error

    def fits(self, sealed: bytes) -> bool:
        """Whether ``sealed`` opens with this key."""
        try:
            self.open(sealed)
        except StoreError:
            return False
        return True


def load_box(path: Path) -> SecretBox | None:
    """The box whose key is in this file; None when there is no such file.

    Raises:
        ConfigError: others may read the file, or it holds no key.
    """
    try:
        mode = path.stat().st_mode
        key = path.read_bytes().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"The ledger's key file {path} cannot be read ({error.strerror}).") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"Others may read the ledger's key file {path}; run: chmod 600 {path}")
    try:
        return SecretBox(key)
    except ValueError as error:
        raise ConfigError(f"{path} holds no ledger key; bring it back from a backup.") from error


def fitting_key(files: Iterable[Path], sealed: bytes | None) -> Path | None:
    """The first of these files whose key opens ``sealed``, any key where that is None; None when there is none.

    Raises:
        ConfigError: as `load_box`.
    """
    for file in files:
        box = load_box(file)
        if box is not None and (sealed is None or box.fits(sealed)):
            return file
    return None


def create_box(path: Path) -> SecretBox:
    """A box with a new key, stored in this file, which must not exist.

    The file appears complete or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    key = Fernet.generate_key()
    try:
        create_private(path, key + b"\n")
    except OSError as error:
        raise ConfigError(f"The ledger's key file {path} cannot be created ({error.strerror}).") from error
    return SecretBox(key)
