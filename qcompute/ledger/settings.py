"""Where the ledger lives and how patient it is."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class LedgerSettings(BaseModel):
    """One SQLite file, or one Postgres database. The defaults suit one daemon on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Path("~/.qcompute/ledger.sqlite3")
    """The database file. It must be on a local disk: write-ahead logs and file locks do not work on network file
    systems. ``PATH.key`` (the key of the stored URLs) and ``PATH.lock`` lie beside it; back up the key with it. Unused
    with ``ledger.url``, but for its folder."""

    url: SecretStr | None = None
    """The Postgres database to use instead of a file, as ``postgresql://user@host:5432/database?sslmode=verify-full``.
    Any parameter of libpq may follow the question mark. A password in it must be percent-encoded; better give it with
    ``ledger.password_secret``. Needs ``pip install 'qcompute[postgres]'``."""

    password_secret: str | None = None
    """The name of the secret that holds the database's password: ``ledger`` is the variable
    ``QCOMPUTE_SECRET_LEDGER``, or the file that ``QCOMPUTE_SECRET_LEDGER_FILE`` names. The password is taken as it
    stands, whatever characters it has."""

    key_file: Path | None = None
    """The file with the key of the stored URLs, when it is not to be ``PATH.key``. All machines that share one
    Postgres ledger need the same key: the first to start makes it, the others get a copy, mode 600."""

    readers: int = Field(default=4, ge=1, le=64)
    """Connections to Postgres that answer questions at the same time; there is one more that writes and one that
    listens. SQLite has one of its own."""

    busy_timeout_seconds: float = Field(default=5, ge=0, le=60)
    """How long to wait for another program (a backup, a shell) that keeps the file, or a row in Postgres, locked before
    an operation fails; half of what a validator waits for an answer."""

    max_pending: int = Field(default=4096, ge=1)
    """Writes waiting for the disk; callers above it wait their turn, so a stalled disk costs a few megabytes only."""

    batch_limit: int = Field(default=512, ge=1, le=4096)
    """Writes that share one commit at most; more gain nothing and make each caller wait longer."""

    forget_unreadable_urls: bool = False
    """Start although the key file is lost: jobs whose circuit is not downloaded yet lose its URL and fail at their
    fetch deadline, all others go on. Off, because bringing the key back from a backup loses nothing."""

    @property
    def file(self) -> Path:
        """The database file with ``~`` expanded."""
        return self.path.expanduser()

    @property
    def key(self) -> Path:
        """The file with the key of the stored URLs, with ``~`` expanded."""
        return self.file.with_name(self.file.name + ".key") if self.key_file is None else self.key_file.expanduser()
