"""What is checked of a database before anybody works on it: its schema, its name, the key of its URLs."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    func,
    inspect,
    select,
    update,
)

from qcompute.errors import ConfigError
from qcompute.ledger.cursor import START, Place
from qcompute.ledger.figures import Figures
from qcompute.ledger.schema import REVISIONS, jobs, meta, metadata
from qcompute.ledger.secretbox import SecretBox, create_box, load_box
from qcompute.miner.job import State
from qcompute.units import Hotkey

_log = logging.getLogger(__name__)

_VERSION: Final = "alembic_version"
_revision: Final = Table(
    _VERSION,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Alembic's own table, as it makes it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A database ready to work on, and what its keepers must know of it."""

    engine: Engine
    """For writing."""
    reading_engine: Engine
    """For reading only."""
    box: SecretBox
    ledger_id: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Where:
    """How messages speak of a database."""

    name: str
    """The file, or what else the operator knows it by; no secret."""
    another: str
    """What to do when this one will not do: "give another file with ledger.path"."""


def upgrade(connection: Connection, where: Where) -> None:
    """Bring the tables to this qcompute's schema, within the caller's transaction.

    Raises:
        ConfigError: they belong to another program, or to a newer qcompute.
    """
    tables = set(inspect(connection).get_table_names())
    revision = None
    if _VERSION in tables:
        revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    elif tables:
        raise ConfigError(f"{where.name} belongs to another program; {where.another}.")
    else:
        _create(connection)
        return
    if revision == REVISIONS[-1]:
        return
    if revision is not None and revision not in REVISIONS:
        raise ConfigError(
            f"{where.name} was written by a newer qcompute (schema {revision}, this one knows up to {REVISIONS[-1]}). "
            f"Install that version again, or {where.another}."
        )
    # Imported only now: alembic costs a running daemon memory that it needs once in many months.
    from qcompute.ledger import migrations  # noqa: PLC0415

    migrations.upgrade(connection)
    _log.info("ledger upgraded from %s to %s", revision, REVISIONS[-1], extra={"action": "ledger_upgrade"})


def _create(connection: Connection) -> None:
    """The newest tables at once: the way through all revisions leads to the same, and alembic takes longer to import.

    That it leads to the same is tested on both kinds of database.
    """
    metadata.create_all(connection)
    _revision.create(connection)
    connection.execute(_revision.insert().values(version_num=REVISIONS[-1]))


def identity(connection: Connection) -> tuple[str, Place]:
    """The ledger's name, a new one for a new ledger, and the place of the job closed last."""
    row = connection.execute(select(meta.c.ledger_id, meta.c.last_cursor_seq, meta.c.last_closed_at)).one_or_none()
    if row is not None:
        return row.ledger_id, Place(row.last_cursor_seq, row.last_closed_at)
    ledger_id = secrets.token_hex(6)
    connection.execute(meta.insert().values(one=1, ledger_id=ledger_id, last_cursor_seq=0, last_closed_at=0))
    return ledger_id, START


def own_box(connection: Connection, key_file: Path, *, forget_unreadable_urls: bool) -> SecretBox:
    """The box of a ledger that one machine uses: a new key when no stored URL depends on an old one.

    Raises:
        ConfigError: stored URLs need a key that is not in the file.
    """
    sample = connection.execute(select(jobs.c.input_data_url).where(_SEALED).limit(1)).scalar()
    box = load_box(key_file)
    if sample is None or (box is not None and box.fits(sample)):
        return box or create_box(key_file)
    if not forget_unreadable_urls:
        fault = "is missing" if box is None else "is not the one of this ledger"
        raise ConfigError(
            f"The ledger's key file {key_file} {fault}, and jobs wait for circuits whose URLs it locks. "
            "Bring it back from a backup, or set ledger.forget_unreadable_urls to give those jobs up."
        )
    _forget_urls(connection)
    return box or create_box(key_file)


def shared_box(connection: Connection, key_file: Path, *, forget_unreadable_urls: bool) -> SecretBox:
    """The box of a ledger that several machines use, each with the same key in its own file.

    The first to open the ledger makes the key; a text sealed with it stays in the ledger, so that a machine with
    another key is known at its start and not by the first job it cannot fetch.

    Raises:
        ConfigError: the file does not hold the ledger's key.
    """
    check = connection.execute(select(meta.c.key_check)).scalar()
    box = load_box(key_file)
    if box is not None and check is not None and box.fits(check):
        return box
    if check is not None:
        if not forget_unreadable_urls:
            fault = "is missing" if box is None else "holds another ledger's key"
            raise ConfigError(
                f"The key file {key_file} (setting ledger.key_file) {fault}: all machines of one ledger need the same "
                "key. Copy the file from a machine that works on this ledger, mode 600, or from a backup; when it is "
                "lost for good, set ledger.forget_unreadable_urls to give up the jobs whose circuits are not fetched."
            )
        _forget_urls(connection)
    box = box or create_box(key_file)
    connection.execute(update(meta).values(key_check=box.seal(_KEY_CHECK)))
    return box


_KEY_CHECK: Final = "the key of this ledger"

_OPEN: Final = [state.value for state in State if state not in {State.SETTLED, State.CLOSED}]
# A URL is wiped when its job settles, so only open rows are looked at.
_SEALED: Final = jobs.c.state.in_(_OPEN) & jobs.c.input_data_url.is_not(None)


def _forget_urls(connection: Connection) -> None:
    count = connection.execute(update(jobs).where(_SEALED).values(input_data_url=None)).rowcount
    _log.warning("%d stored URLs given up with their key", count, extra={"action": "ledger_forget_urls"})


def count_all(connection: Connection, latest: Place) -> Figures:
    """The figures of a ledger that is opened, every row counted."""
    by_state = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
    states = Counter({State(state): count for state, count in by_state})
    unclosed = jobs.c.state.in_([state.value for state in State if state is not State.CLOSED])
    hotkey = jobs.c.validator_hotkey
    wholes = jobs.c.parent_id.is_(None)
    by_hotkey = connection.execute(select(hotkey, func.count()).where(unclosed, wholes).group_by(hotkey))
    return Figures(latest, states, Counter({Hotkey(key): count for key, count in by_hotkey}))
