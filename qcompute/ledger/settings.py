"""Where the ledger lives and how patient it is."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class LedgerSettings(BaseModel):
    """One SQLite file, its key and its lock; the defaults suit one daemon on one machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Path("~/.qcompute/ledger.sqlite3")
    """The database file. It must be on a local disk: write-ahead logs and file locks do not work on network file
    systems. ``PATH.key`` (the key of the stored URLs) and ``PATH.lock`` lie beside it; back up the key with it."""

    busy_timeout_seconds: float = Field(default=5, ge=0, le=60)
    """How long to wait for another program (a backup, a shell) that keeps the file locked, before an operation fails;
    half of what a validator waits for an answer."""

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
