"""The ledger's rows as they are on disk, whoever works on them: read only, without URLs, so no key is needed."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from qcompute.errors import ConfigError
from qcompute.ledger.backup import reading, revision_of
from qcompute.ledger.failures import translated
from qcompute.ledger.rows import charge_from, job_from, outcome_from, summed_by_day
from qcompute.ledger.times import DAY_MICROS, micros
from qcompute.miner.job import Charge, DayCharges, Job, Outcome, State, Verdict
from qcompute.miner.settings import Settings
from qcompute.units import ExecutionId, ProviderKey

_NEWEST_FIRST: Final = "ORDER BY received_at DESC, execution_id"

_SEARCHED: Final = ("execution_id", "validator_hotkey", "provider_job_id", "device_id", "error_code", "error")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs; None and empty let all pass. ``text`` is looked for in ids, places and problems, in any case."""

    states: Sequence[State] = ()
    verdicts: Sequence[Verdict] = ()
    validator: str | None = None
    account: str | None = None
    device: str | None = None
    since: datetime | None = None
    text: str | None = None

    def words(self) -> tuple[str, list[Any]]:
        """The WHERE of a query, and its values."""
        parts, values = list[str](), list[Any]()
        for column, several in (("state", self.states), ("verdict", self.verdicts)):
            if several:
                parts.append(f"{column} IN ({', '.join('?' * len(several))})")
                values += [one.value for one in several]
        for column, exact in (
            ("validator_hotkey", self.validator),
            ("provider", self.account),
            ("device_id", self.device),
        ):
            if exact is not None:
                parts.append(f"{column} = ?")
                values.append(exact)
        if self.since is not None:
            parts.append("received_at >= ?")
            values.append(micros(self.since))
        if self.text is not None:
            parts.append("(" + " OR ".join(rf"{column} LIKE ? ESCAPE '\'" for column in _SEARCHED) + ")")
            values += [_like(self.text)] * len(_SEARCHED)
        return (f"WHERE {' AND '.join(parts)}" if parts else ""), values


def _like(text: str) -> str:
    for sign in ("\\", "%", "_"):
        text = text.replace(sign, f"\\{sign}")
    return f"%{text}%"


class Rows:
    """Reads one miner's ledger. ``command`` is named where it cannot be read.

    Raises:
        ConfigError: the ledger is on Postgres; and from every method when there is no ledger here.
    """

    def __init__(self, settings: Settings, command: str) -> None:
        if settings.ledger.url is not None:
            raise ConfigError(
                f"qcompute {command} reads SQLite files only, and ledger.url is set: ask the daemon's operator port "
                "(GET /jobs/ID), or the database itself"
            )
        self.file = settings.ledger.file

    def jobs(self, wanted: Filter, *, limit: int, offset: int = 0) -> list[Job]:
        """Jobs, the newest first."""
        where, values = wanted.words()
        # Rows are wide: only those that are shown are read as a whole.
        chosen = f"SELECT execution_id FROM jobs {where} {_NEWEST_FIRST} LIMIT ? OFFSET ?"  # noqa: S608 - fixed words
        return self._jobs(f"WHERE execution_id IN ({chosen}) {_NEWEST_FIRST}", [*values, limit, offset])

    def count(self, wanted: Filter) -> int:
        """How many there are."""
        where, values = wanted.words()
        with self._connection() as connection:
            (count,) = connection.execute(f"SELECT count(*) FROM jobs {where}", values).fetchone()  # noqa: S608 - fixed words
            return int(count)

    def each(self, wanted: Filter) -> Iterator[Job]:
        """All of them, the oldest first, read one after the other from one moment's ledger."""
        where, values = wanted.words()
        with self._connection() as connection:
            query = f"SELECT * FROM jobs {where} ORDER BY received_at, execution_id"  # noqa: S608 - fixed words
            for row in connection.execute(query, values):
                yield _job(row)

    def job(self, execution_id: str) -> Job | None:
        """One job."""
        found = self._jobs("WHERE execution_id = ?", [execution_id])
        return found[0] if found else None

    def parts(self, execution_id: str) -> list[Job]:
        """The parts of a job that was split."""
        return self._jobs("WHERE parent_id = ? ORDER BY execution_id", [execution_id])

    def moving(self, since: datetime) -> list[Job]:
        """Jobs that are not closed, and those closed since."""
        return self._jobs(
            "WHERE closed_at IS NULL OR closed_at >= ? ORDER BY received_at, execution_id", [micros(since)]
        )

    def outcome(self, execution_id: str) -> Outcome | None:
        """How a job ended."""
        with self._connection() as connection:
            row = connection.execute("SELECT * FROM outcomes WHERE execution_id = ?", [execution_id]).fetchone()
            return None if row is None else outcome_from(dict(row))

    def charge(self, execution_id: str) -> Charge | None:
        """What a job counts in the budgets."""
        with self._connection() as connection:
            row = connection.execute("SELECT * FROM charges WHERE execution_id = ?", [execution_id]).fetchone()
            return None if row is None else charge_from(dict(row))

    def receipts(self, execution_id: str | None) -> dict[str, str]:
        """Signed receipts by job; of one job, or all in the order in which they were received."""
        where, values = ("", []) if execution_id is None else ("WHERE jobs.execution_id = ?", [execution_id])
        query = (
            "SELECT jobs.execution_id, document FROM receipts JOIN jobs USING (execution_id) "  # noqa: S608 - fixed words
            f"{where} ORDER BY jobs.received_at, jobs.execution_id"
        )
        with self._connection() as connection:
            return {row["execution_id"]: row["document"] for row in connection.execute(query, values)}

    def spent(self, account: ProviderKey, first_day: date) -> list[DayCharges]:
        """An account's charges by day and currency, from a day on."""
        since = (first_day - date(1970, 1, 1)).days * DAY_MICROS
        query = (
            f"SELECT charged_at / {DAY_MICROS}, currency, amount, count(*) FROM charges "  # noqa: S608 - a number
            "WHERE account = ? AND charged_at >= ? GROUP BY 1, 2, 3"
        )
        with self._connection() as connection:
            return summed_by_day(tuple(row) for row in connection.execute(query, [account, since]))

    def reserved(self, account: ProviderKey) -> dict[ExecutionId, Charge]:
        """An account's charges that are not settled."""
        query = "SELECT * FROM charges WHERE account = ? AND settled_at IS NULL"
        with self._connection() as connection:
            return {row["execution_id"]: charge_from(dict(row)) for row in connection.execute(query, [account])}

    def accounts_charged(self) -> list[ProviderKey]:
        """Every account that was ever charged."""
        with self._connection() as connection:
            return [name for (name,) in connection.execute("SELECT DISTINCT account FROM charges ORDER BY 1")]

    def _jobs(self, rest: str, values: Sequence[Any]) -> list[Job]:
        with self._connection() as connection:
            rows = connection.execute(f"SELECT * FROM jobs {rest}", values)  # noqa: S608 - fixed words, values bound
            return [_job(row) for row in rows]

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection]:
        try:
            with reading(self.file) as connection:
                revision_of(connection, self.file)
                connection.row_factory = sqlite3.Row
                yield connection
        except sqlite3.Error as error:
            raise translated(error) from error


def _job(row: sqlite3.Row) -> Job:
    # A ledger of an older version lacks columns until a daemon has opened it.
    return job_from({"prepared": None, "placement": None, "parent_id": None, **dict(row), "input_data_url": None})
