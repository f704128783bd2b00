"""The names of a ledger's file that is moved to Postgres, which keep every daemon from the same jobs a second time.

While it is copied the file is ``NAME.moving``, and nobody may work on either; afterwards it is ``NAME.moved``, and only
the database is worked on. A new file is never begun beside one of them: whoever forgot ``ledger.url`` would otherwise
have a miner that knows nothing of its jobs.
"""

from __future__ import annotations

from pathlib import Path

from qcompute.errors import ConfigError


def moving_file(ledger: Path) -> Path:
    """What the file is called while it is copied."""
    return ledger.with_name(f"{ledger.name}.moving")


def moved_file(ledger: Path) -> Path:
    """What it is called once the database has everything."""
    return ledger.with_name(f"{ledger.name}.moved")


def refuse_half_moved(ledger: Path) -> None:
    """Nobody may work on a ledger whose move was begun and not ended.

    Raises:
        ConfigError: this one's was.
    """
    if moving_file(ledger).exists():
        raise ConfigError(
            f"{moving_file(ledger)} is a ledger on its way to Postgres, and the way was broken off. End it: run "
            "`qcompute ledger move` again, with the same ledger.url"
        )


def refuse_to_begin(ledger: Path) -> None:
    """Whether a new file may be begun under this name.

    Raises:
        ConfigError: the ledger that was there is in a database now, or on its way.
    """
    refuse_half_moved(ledger)
    if moved_file(ledger).exists():
        raise ConfigError(
            f"the ledger {ledger} was moved to Postgres: set ledger.url. To begin a new ledger here, put "
            f"{moved_file(ledger)} elsewhere first"
        )
