"""The ledger's rows as they are stored, whoever works on them: read only, without URLs, so no key is needed."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final

from sqlalchemy import ColumnElement, CursorResult, Executable, func, or_, select, text

from qcompute.errors import ConfigError
from qcompute.ledger import statements
from qcompute.ledger.browse import contains
from qcompute.ledger.listing import OPEN_STATES
from qcompute.ledger.looking import Look, looked_at
from qcompute.ledger.rows import charge_from, job_from, outcome_from, summed_by_day
from qcompute.ledger.schema import charges, jobs, receipts
from qcompute.ledger.times import micros
from qcompute.miner.job import Charge, DayCharges, Job, Outcome, State, Verdict
from qcompute.miner.settings import Settings
from qcompute.units import ExecutionId, ProviderKey

_NEWEST_FIRST: Final = (jobs.c.received_at.desc(), jobs.c.execution_id)
_OLDEST_FIRST: Final = (jobs.c.received_at, jobs.c.execution_id)

_JOBS: Final = select(text("*")).select_from(jobs)
"""Whole rows, whichever columns there are: a ledger of an older version lacks some until a daemon has opened it."""

_CHARGES_SINCE: Final = "r0003"
_PARTS_SINCE: Final = "r0005"

_AT_ONCE: Final = 500
"""Rows in memory while all are gone through: the server of Postgres keeps the others."""


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

    def conditions(self) -> list[ColumnElement[bool]]:
        """The WHERE of a query."""
        found = list[ColumnElement[bool]]()
        for column, several in ((jobs.c.state, self.states), (jobs.c.verdict, self.verdicts)):
            if several:
                found.append(column.in_([one.value for one in several]))
        for column, exact in (
            (jobs.c.validator_hotkey, self.validator),
            (jobs.c.provider, self.account),
            (jobs.c.device_id, self.device),
        ):
            if exact is not None:
                found.append(column == exact)
        if self.since is not None:
            found.append(jobs.c.received_at >= micros(self.since))
        if self.text is not None:
            found.append(contains(self.text))
        return found


class Rows:
    """Reads one miner's ledger, in a file or in Postgres.

    Raises:
        ConfigError: the settings of the ledger will not do; and from every method when there is no ledger there.
        StoreError: from every method, the database failed.
    """

    def __init__(self, settings: Settings) -> None:
        ledger = looked_at(settings.ledger)
        self.name = ledger.name
        self._look = ledger.look

    def jobs(self, wanted: Filter, *, limit: int, offset: int = 0) -> list[Job]:
        """Jobs, the newest first."""
        # Rows are wide: only those that are shown are read as a whole.
        chosen = select(jobs.c.execution_id).where(*wanted.conditions()).order_by(*_NEWEST_FIRST)
        ids = chosen.limit(limit).offset(offset)
        return self._jobs(_JOBS.where(jobs.c.execution_id.in_(ids)).order_by(*_NEWEST_FIRST))

    def count(self, wanted: Filter) -> int:
        """How many there are."""
        with self._look() as look:
            statement = select(func.count()).select_from(jobs).where(*wanted.conditions())
            return _asked(look, statement).scalar_one()

    @contextmanager
    def each(self, wanted: Filter) -> Generator[Iterator[Job]]:
        """All of them, the oldest first, read one after the other from one moment's ledger."""
        with self._each(_JOBS.where(*wanted.conditions()).order_by(*_OLDEST_FIRST)) as rows:
            yield map(_job, rows)

    def job(self, execution_id: str) -> Job | None:
        """One job."""
        found = self._jobs(_JOBS.where(jobs.c.execution_id == execution_id))
        return found[0] if found else None

    def parts(self, execution_id: str) -> list[Job]:
        """The parts of a job that was split."""
        statement = _JOBS.where(jobs.c.parent_id == execution_id).order_by(jobs.c.execution_id)
        return self._jobs(statement, since=_PARTS_SINCE)

    def moving(self, since: datetime) -> list[Job]:
        """Jobs that are not closed, and those closed since."""
        # Asked twice a second: both halves have an index, so closed jobs of long ago are not read.
        lately = or_(jobs.c.state.in_([state.value for state in OPEN_STATES]), jobs.c.closed_at >= micros(since))
        return self._jobs(_JOBS.where(lately).order_by(*_OLDEST_FIRST))

    def outcome(self, execution_id: str) -> Outcome | None:
        """How a job ended."""
        found = self._all(statements.OUTCOME, {"id": execution_id})
        return outcome_from(found[0]) if found else None

    def charge(self, execution_id: str) -> Charge | None:
        """What a job counts in the budgets."""
        statement = select(charges).where(charges.c.execution_id == execution_id)
        found = self._all(statement, since=_CHARGES_SINCE)
        return charge_from(found[0]) if found else None

    @contextmanager
    def receipts(self, execution_id: str | None) -> Generator[Iterator[tuple[str, str]]]:
        """Signed receipts with the ids of their jobs; of one job, or all in the order in which they were received."""
        of_job = receipts.c.execution_id == jobs.c.execution_id
        statement = select(jobs.c.execution_id, receipts.c.document).join_from(receipts, jobs, of_job)
        if execution_id is not None:
            statement = statement.where(jobs.c.execution_id == execution_id)
        with self._each(statement.order_by(*_OLDEST_FIRST)) as rows:
            yield ((row["execution_id"], row["document"]) for row in rows)

    def spent(self, account: ProviderKey, first_day: date) -> list[DayCharges]:
        """An account's charges by day and currency, from a day on."""
        since = micros(datetime.combine(first_day, time(), UTC))
        found = self._all(statements.CHARGES_BY_DAY, {"account": account, "since": since}, since=_CHARGES_SINCE)
        return summed_by_day(
            (day, currency, amount, count) for day, currency, amount, count in (row.values() for row in found)
        )

    def reserved(self, account: ProviderKey) -> dict[ExecutionId, Charge]:
        """An account's charges that are not settled."""
        found = self._all(statements.OPEN_CHARGES, {"account": account}, since=_CHARGES_SINCE)
        return {row["execution_id"]: charge_from(row) for row in found}

    def accounts_charged(self) -> list[ProviderKey]:
        """Every account that was ever charged."""
        statement = select(charges.c.account).distinct().order_by(charges.c.account)
        return [row["account"] for row in self._all(statement, since=_CHARGES_SINCE)]

    def _jobs(self, statement: Executable, *, since: str = "") -> list[Job]:
        return [_job(row) for row in self._all(statement, since=since)]

    def _all(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None, *, since: str = ""
    ) -> list[Mapping[str, Any]]:
        """All rows; none of a ledger older than the revision ``since``, which has no place for them."""
        with self._look() as look:
            if look.revision < since:
                return []
            return [dict(row) for row in _asked(look, statement, parameters).mappings()]

    @contextmanager
    def _each(self, statement: Executable) -> Generator[Iterator[Mapping[str, Any]]]:
        with self._look() as look, closing(_asked(look, statement, yield_per=_AT_ONCE)) as rows:
            yield map(dict, rows.mappings())


def _asked(
    look: Look, statement: Executable, parameters: Mapping[str, Any] | None = None, **options: int
) -> CursorResult[Any]:
    try:
        return look.connection.execute(statement, parameters or {}, execution_options=options)
    except UnicodeEncodeError as error:
        # A command line holds bytes; no database takes what is no text.
        raise ConfigError("an id, or what is filtered by, is not UTF-8 text") from error


def _job(row: Mapping[str, Any]) -> Job:
    return job_from({"prepared": None, "placement": None, "parent_id": None, **row, "input_data_url": None})
