"""Settings of connections: where credentials are kept."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class StoreKind(StrEnum):
    """Where credentials are kept that ``qcompute connections`` is given."""

    AUTO = "auto"
    """The keyring where one works, else the encrypted file."""
    KEYRING = "keyring"
    FILE = "file"
    ENVIRONMENT = "environment"
    """Nowhere: they are variables, as somebody else sets them."""


class ConnectionSettings(BaseModel):
    """Where credentials are kept, and what opens the encrypted file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: StoreKind = StoreKind.AUTO
    """``auto``: the operating system's keyring where one works, else an encrypted file. ``keyring`` and ``file`` allow
    only the one. ``environment``: nothing is stored, and only variables are looked at. Variables are looked at last in
    any case."""

    file: Path | None = None
    """The encrypted file; not set: ``credentials.json`` in this miner's folder."""

    key_file: Path | None = None
    """A file with the key of the encrypted file, made when it is not there. Not set: a passphrase opens it, which is
    asked for at the terminal, or is the secret ``credential_store`` (the variable QCOMPUTE_SECRET_CREDENTIAL_STORE, or
    the file that QCOMPUTE_SECRET_CREDENTIAL_STORE_FILE names). The daemon cannot ask."""
