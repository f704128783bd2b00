"""The table of owners, as one session of Postgres works on it; all calls block and belong to one thread.

A lane's owner holds an advisory lock of that lane in its session. The lock says whose session must end before another
process may be the owner; the row says which of its holders still lives.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from qcompute.ledger.lease import LEASE_SECONDS
from qcompute.ledger.postgres_connect import tell_session

_QUICK: Final = {"tcp_user_timeout": "1500", "connect_timeout": "2"}
"""A connection that answers no more is given up while there is time to make another within the lease."""

_TOLD: Final = {
    # A beat or a fence that is forgotten by a crash of the server would come a second time.
    "synchronous_commit": "on",
    "statement_timeout": "2s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "2s",
}

_END_MS: Final = 1000
"""How long to wait for the end of another session."""

# A 64-bit key, so that no two lanes of one database ever meet in one lock. Two schemas may hold two ledgers.
_KEY: Final = "hashtextextended(coalesce(current_schema(), '') || E'\\n' || %(lane)s, 1902341703)"
_FIRST: Final = (
    "INSERT INTO owners (lane, fence, holder, beat, taken_at) VALUES (%(lane)s, 0, NULL, 0, 0) ON CONFLICT DO NOTHING"
)
_LOCK_ROW: Final = "SELECT fence, beat, holder FROM owners WHERE lane = %(lane)s FOR UPDATE"
_LOCK: Final = f"SELECT pg_try_advisory_lock({_KEY})"
_END_HOLDER: Final = (
    f"SELECT pg_terminate_backend(pid, {_END_MS}) FROM pg_locks, (SELECT {_KEY} AS key) AS wanted "  # noqa: S608 - ours
    "WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> pg_backend_pid() "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND classid::bigint = ((key >> 32) & 4294967295) AND objid::bigint = (key & 4294967295)"
)
_END_SESSIONS: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %(holder)s "
    "AND datname = current_database() AND pid <> pg_backend_pid()"
)
_TAKE: Final = (
    "UPDATE owners SET fence = fence + 1, beat = 0, holder = %(holder)s, "
    "taken_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint WHERE lane = %(lane)s RETURNING fence"
)
_LET_GO: Final = "UPDATE owners SET holder = NULL WHERE lane = %(lane)s AND fence = %(fence)s"
_UNLOCK: Final = f"SELECT pg_advisory_unlock({_KEY})"
_LOOK: Final = "SELECT lane, fence, beat, holder FROM owners WHERE lane = ANY(%(lanes)s::text[])"
_BEAT: Final = (
    "UPDATE owners SET beat = owners.beat + 1 "
    "FROM unnest(%(lanes)s::text[], %(fences)s::bigint[]) AS ours (lane, fence) "
    "WHERE owners.lane = ours.lane AND owners.fence = ours.fence AND owners.holder = %(name)s RETURNING owners.lane"
)


@dataclass(frozen=True, slots=True)
class Sight:
    """A lane's row as it was seen. Two that are equal say that there was no beat in between."""

    fence: int
    beat: int
    holder: str | None
    """The name of the owner's sessions."""


FREE: Final = Sight(0, 0, None)
"""A lane that nobody ever took."""


class OwnerTable:
    """One session. A call that fails because of the connection ends it; `connect` makes the next.

    Every method raises `psycopg.Error`.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters: dict[str, Any] = {**parameters, **_QUICK}
        self._name: str = self._parameters["application_name"]
        self._connection: psycopg.Connection[Any] | None = None
        self._locked: set[str] = set()

    @property
    def is_connected(self) -> bool:
        """Whether there is a session, as far as is known."""
        return self._connection is not None

    def connect(self) -> None:
        """Make a new session; it has no lock."""
        self.close()
        connection = psycopg.connect(**self._parameters)
        try:
            tell_session(connection, _TOLD)
            connection.autocommit = True
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def close(self) -> None:
        """End the session, and with it its locks."""
        connection, self._connection = self._connection, None
        self._locked.clear()
        if connection is not None:
            connection.close()

    def look(self, lanes: Iterable[str]) -> dict[str, Sight]:
        """The rows of those lanes that were ever taken."""
        with self._session() as session:
            rows = session.execute(_LOOK, {"lanes": list(lanes)}).fetchall()
        return {lane: Sight(*sight) for lane, *sight in rows}

    def beat(self, fences: Mapping[str, int]) -> set[str]:
        """Say that we live; the lanes that are still ours."""
        with self._session() as session:
            ours = {"lanes": list(fences), "fences": list(fences.values()), "name": self._name}
            rows = session.execute(_BEAT, ours).fetchall()
        return {lane for (lane,) in rows}

    def take(self, lane: str, seen: Sight) -> int | None:
        """Become the owner, ending another's session if need be; the new fence. None when it is not as ``seen``.

        The caller knows that whoever owns it as ``seen`` does nothing in its name any more.
        """
        if seen.holder not in (None, self._name):
            self._end_sessions(seen.holder)
        with self._session() as session, session.transaction():
            session.execute(_FIRST, {"lane": lane})
            if _locked_row(session, lane) != seen or not self._lock(session, lane):
                return None
            row = session.execute(_TAKE, {"lane": lane, "holder": self._name}).fetchone()
            return None if row is None else int(row[0])

    def resume(self, lane: str, fence: int) -> bool:
        """After a lost session: have the lock of a lane again. False when another has taken the lane."""
        with self._session() as session, session.transaction():
            row = _locked_row(session, lane)
            if row is None or (row.fence, row.holder) != (fence, self._name):
                return False
            # Whoever has the lock is our own old session, of whose end the server does not know yet.
            return self._lock(session, lane)

    def let_go(self, lane: str, fence: int) -> None:
        """Leave a lane to others; a no-op when it is another's."""
        with self._session() as session, session.transaction():
            session.execute(_LET_GO, {"lane": lane, "fence": fence})
            if lane in self._locked:
                # Before the commit: whoever sees the lane free finds the lock free too.
                session.execute(_UNLOCK, {"lane": lane})
                self._locked.discard(lane)

    def tell(self, channel: str, message: str) -> None:
        """Send a notice to every process that listens."""
        with self._session() as session:
            session.execute("SELECT pg_notify(%(channel)s, %(message)s)", {"channel": channel, "message": message})

    def _end_sessions(self, holder: str) -> None:
        """End what is left of a dead owner. One that was stopped in mid-transaction keeps rows locked, this one too.

        Where it stood between two messages of a pipeline, no time limit of the server ends it.
        """
        with self._session() as session:
            session.execute(_END_SESSIONS, {"holder": holder})

    def _lock(self, session: psycopg.Connection[Any], lane: str) -> bool:
        """Have the advisory lock in this session, ending whoever has it. The row must be locked."""
        if lane in self._locked:
            return True
        if not _try_lock(session, lane):
            session.execute(_END_HOLDER.encode(), {"lane": lane})
            if not _try_lock(session, lane):
                return False
        self._locked.add(lane)
        return True

    @contextmanager
    def _session(self) -> Generator[psycopg.Connection[Any]]:
        if self._connection is None:
            self.connect()
        if self._connection is None:
            raise psycopg.OperationalError("no session")
        try:
            yield self._connection
        except psycopg.errors.LockNotAvailable:
            # Another process is at the row; the session is sound.
            raise
        except psycopg.Error:
            self.close()
            raise


def _locked_row(session: psycopg.Connection[Any], lane: str) -> Sight | None:
    row = session.execute(_LOCK_ROW, {"lane": lane}).fetchone()
    return None if row is None else Sight(*row)


def _try_lock(session: psycopg.Connection[Any], lane: str) -> bool:
    row = session.execute(_LOCK.encode(), {"lane": lane}).fetchone()
    return row is not None and bool(row[0])


class Watch:
    """Since when each lane was seen as it is: what tells a dead owner from a live one."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Sight, float]] = {}

    def note(self, lane: str, sight: Sight, seen_at: float) -> None:
        """``seen_at`` is a moment after the look."""
        known = self._seen.get(lane)
        if known is None or known[0] != sight:
            self._seen[lane] = (sight, seen_at)

    def may_be_taken(self, lane: str, sight: Sight, looked_at: float) -> bool:
        """Whether nobody does anything in its name; ``looked_at`` is a moment before the look that saw ``sight``."""
        if sight.holder is None:
            return True
        known = self._seen.get(lane)
        return known is not None and known[0] == sight and looked_at - known[1] >= LEASE_SECONDS

    def forget(self, lane: str) -> None:
        """Begin anew."""
        self._seen.pop(lane, None)
