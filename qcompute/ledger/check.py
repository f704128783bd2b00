"""Whether a ledger, or a copy of one, is what the daemon would have written. Read only, also while a daemon has it.

First the file as SQLite sees it, then what SQLite knows nothing of: every row's parts, the order of closing, the key,
and the receipts' signatures. Nothing found here stops anything; it is for the operator's eyes.
"""

from __future__ import annotations

import hashlib
import sqlite3
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from qcompute.errors import ConfigError, QComputeError, StoreError
from qcompute.ledger.backup import count_rows, key_file, reading, revision_of
from qcompute.ledger.rows import job_from, outcome_from
from qcompute.ledger.secretbox import SecretBox, load_box
from qcompute.ledger.times import micros
from qcompute.miner.job import SPLIT_LANE, Job, Outcome, State, Verdict
from qcompute.receipts import Receipt, counts_sha256, verify_receipt

IMPORTED: Final = "imported_from"
"""Key in an outcome's metadata: the job ran under another program, so there are no counts and no receipt of ours."""

MOST_TOLD: Final = 20
"""Problems of one kind that are told one by one; the others are counted."""

_SANE: Final = timedelta(days=366)
"""Nothing a ledger holds lies further from now."""

_NUMBERS: Final = ("shots", "version", "attempts", "submit_attempts", "received_at", "due_at", "deadline_at")

_COLUMNS_SINCE: Final = {"prepared": None, "placement": None, "parent_id": None}
"""What a row of an earlier schema does not have."""

_UNREADABLE = (ValueError, TypeError, KeyError, ArithmeticError, QComputeError)
"""What reading a damaged row can raise; ValueError covers JSON, times and unknown words."""


@dataclass(slots=True)
class CheckReport:
    """What was found. ``is_database`` is false when not even SQLite can read it."""

    file: Path
    problems: list[str] = field(default_factory=list[str])
    is_database: bool = True
    revision: str | None = None
    rows: dict[str, int] = field(default_factory=dict[str, int])
    states: dict[str, int] = field(default_factory=dict[str, int])
    signers: dict[str, int] = field(default_factory=dict[str, int])
    """Receipts by the hotkey that signed them."""
    left_out: Counter[str] = field(default_factory=Counter[str])

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def add(self, kind: str, problem: str) -> None:
        """Note a problem; of each kind the first ones are kept."""
        self.left_out[kind] += 1
        if self.left_out[kind] <= MOST_TOLD:
            self.problems.append(problem)
        elif self.left_out[kind] == MOST_TOLD + 1:
            self.problems.append(f"and more of this kind ({kind})")


def check_ledger(file: Path, *, hotkey: str | None = None, now: datetime | None = None) -> CheckReport:
    """Look through a whole ledger. ``hotkey`` is who must have signed its receipts; None: anyone, but one.

    Raises:
        ConfigError: there is no such file, it is no ledger, or one of a newer qcompute.
    """
    report = CheckReport(file)
    if file.is_file() and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        report.add("mode", f"others may read {file}; run: chmod 600 {file}")
    try:
        with reading(file) as connection:
            connection.row_factory = sqlite3.Row
            _check_file(connection, report)
            if report.is_database:
                _Rows(connection, report, _box(file, report), hotkey, now or datetime.now(UTC)).check()
    except sqlite3.Error as error:
        report.is_database = False
        report.add("file", f"SQLite cannot read it: {error}")
    return report


def _check_file(connection: sqlite3.Connection, report: CheckReport) -> None:
    for (line,) in connection.execute(f"PRAGMA integrity_check({MOST_TOLD})"):
        if line != "ok":
            report.is_database = False
            report.add("file", f"damaged: {line}")
    if not report.is_database:
        return
    report.revision = revision_of(connection, report.file)
    for row in connection.execute("PRAGMA foreign_key_check"):
        report.add("foreign key", f"a row of {row[0]} belongs to no job")
    report.rows = count_rows(connection)


def _box(file: Path, report: CheckReport) -> SecretBox | None:
    try:
        return load_box(key_file(file))
    except ConfigError as error:
        report.add("key", error.message)
        return None


class _Rows:
    """The rows of one ledger."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        report: CheckReport,
        box: SecretBox | None,
        hotkey: str | None,
        now: datetime,
    ) -> None:
        self._connection = connection
        self._report = report
        self._box = box
        self._hotkey = hotkey
        self._now = now

    def check(self) -> None:
        states: Counter[str] = Counter()
        for row in self._connection.execute("SELECT * FROM jobs ORDER BY execution_id"):
            states[row["state"]] += 1
            for problem in self._problems(dict(row)):
                self._report.add("job", f"job {row['execution_id']}: {problem}")
        self._report.states = {str(state): states[state] for state in State if states[state]}
        self._order()
        self._nonces()
        self._signers()

    def _problems(self, row: dict[str, Any]) -> list[str]:
        if not all(isinstance(row[name], int) for name in _NUMBERS):
            return ["a number in its row is no number"]
        try:
            return list(self._job(row))
        except _UNREADABLE as error:
            return [f"it cannot be read ({type(error).__name__})"]

    def _job(self, row: dict[str, Any]) -> Iterator[str]:
        sealed = row["input_data_url"]
        if sealed is not None:
            yield from self._url(row["state"], sealed)
        job = job_from({**_COLUMNS_SINCE, **row, "input_data_url": None})
        if row.get("lane", job.lane) != job.lane:
            yield f"it is in the lane {row['lane']!r} instead of {job.lane!r}, so nobody works on it"
        yield from self._times(job)
        yield from self._parts(job)

    def _url(self, state: str, sealed: bytes) -> Iterator[str]:
        if state in {State.SETTLED, State.CLOSED}:
            yield "its URL was not wiped although it has ended"
        elif self._box is None:
            yield "its URL cannot be opened: the key file is missing"
        else:
            try:
                self._box.open(sealed)
            except (StoreError, TypeError):
                yield "its URL cannot be opened with this key"

    def _times(self, job: Job) -> Iterator[str]:
        for name in ("received_at", "due_at", "deadline_at"):
            moment: datetime = getattr(job, name)
            if job.state is not State.CLOSED and abs(moment - self._now) > _SANE:
                yield f"its {name} is {moment:%Y-%m-%d}"

    def _parts(self, job: Job) -> Iterator[str]:
        if job.parent_id is not None and not self._has("execution_id", job.parent_id):
            yield f"the job {job.parent_id} it is a part of is gone"
        text = self._part("circuits", "text", job.parent_id or job.execution_id)  # parts run their whole's
        if text is not None and job.circuit_sha256 != hashlib.sha256(text.encode()).hexdigest():
            yield "its circuit is not the one that was downloaded"
        if job.state in {State.SETTLED, State.CLOSED}:
            yield from self._ended(job)
            return
        if job.verdict is not None:
            yield "it has a verdict before it has ended"
        if job.state in {State.READY, State.SUBMITTING} and text is None:
            yield f"it is {job.state} and has no circuit"
        if job.state is State.SUBMITTING and None in (job.provider, job.device_id, job.token):
            yield "it is to be submitted and has no provider, device or token"
        if job.lane == SPLIT_LANE and not self._has("parent_id", job.execution_id):
            yield "it waits for its parts and has none"
        if (
            job.state is State.WAITING
            and job.lane != SPLIT_LANE
            and not (job.provider and (job.handle or {}).get("provider_job_id"))
        ):
            yield "it waits for a vendor's job and says for which not"

    def _ended(self, job: Job) -> Iterator[str]:
        if job.verdict is None:
            yield "it has ended and has no verdict"
        query = "SELECT * FROM outcomes WHERE execution_id = ?"
        found = self._connection.execute(query, (job.execution_id,)).fetchone()
        if found is None:
            yield "it has ended and has no outcome"
            return
        outcome = outcome_from(dict(found))
        if IMPORTED in outcome.metadata:
            return
        if job.verdict is Verdict.SUCCEEDED and not _counts_are_sound(outcome):
            yield "its counts are missing, or do not add up"
        yield from self._receipt(job, outcome)

    def _receipt(self, job: Job, outcome: Outcome) -> Iterator[str]:
        document = self._part("receipts", "document", job.execution_id)
        if document is None:
            yield "it has ended and has no receipt"
            return
        try:
            receipt = verify_receipt(document)
        except QComputeError as error:
            yield f"its receipt does not verify: {error}"
            return
        self._report.signers[receipt.miner_hotkey] = self._report.signers.get(receipt.miner_hotkey, 0) + 1
        for name, (theirs, ours) in _compared(receipt, job, outcome).items():
            if theirs != ours:
                yield f"its receipt says another {name} than its row"

    def _part(self, table: str, column: str, execution_id: str) -> str | None:
        query = f"SELECT {column} FROM {table} WHERE execution_id = ?"  # noqa: S608 - names of our own
        found = self._connection.execute(query, (execution_id,)).fetchone()
        return None if found is None else str(found[0])

    def _has(self, column: str, value: str) -> bool:
        query = f"SELECT 1 FROM jobs WHERE {column} = ? LIMIT 1"  # noqa: S608 - a name of our own
        return self._connection.execute(query, (value,)).fetchone() is not None

    def _order(self) -> None:
        add = self._report.add
        rows = self._connection.execute("SELECT * FROM meta").fetchall()
        if len(rows) != 1 or not rows[0]["ledger_id"]:
            add("meta", "the ledger has no name of its own (table meta)")
            return
        last_seq, last_at = 0, 0
        query = "SELECT cursor_seq, closed_at FROM jobs WHERE cursor_seq IS NOT NULL ORDER BY cursor_seq"
        for seq, closed_at in self._connection.execute(query):
            if last_seq and seq != last_seq + 1:
                add("order", f"between the closed jobs {last_seq} and {seq} numbers are missing")
            if closed_at <= last_at:
                add("order", f"closed job {seq} is older than the one before it: validators would miss jobs")
            last_seq, last_at = seq, closed_at
        if last_seq > rows[0]["last_cursor_seq"] or last_at > rows[0]["last_closed_at"]:
            add("meta", "the place of the job closed last (table meta) lies before a closed job")

    def _nonces(self) -> None:
        latest_ns = (micros(self._now) + micros_in(_SANE)) * 1000
        for table in ("nonces", "used_nonces"):
            query = f"SELECT count(*) FROM {table} WHERE typeof(value_ns) != 'integer' OR value_ns > ?"  # noqa: S608 - ours
            if wrong := self._connection.execute(query, (latest_ns,)).fetchone()[0]:
                self._report.add("nonces", f"{wrong} rows of {table} hold no time")

    def _signers(self) -> None:
        signers = self._report.signers
        if self._hotkey is not None and (others := set(signers) - {self._hotkey}):
            self._report.add("signer", f"receipts are signed by {', '.join(sorted(others))}, not by {self._hotkey}")
        elif len(signers) > 1:
            self._report.add("signer", f"receipts are signed by {len(signers)} different hotkeys")


def micros_in(span: timedelta) -> int:
    """Whole microseconds of a duration."""
    return span // timedelta(microseconds=1)


def _counts_are_sound(outcome: Outcome) -> bool:
    counts = outcome.counts
    if not counts or not all(key and not set(key) - {"0", "1"} for key in counts):
        return False
    return sum(counts.values()) == outcome.shots_returned


def _compared(receipt: Receipt, job: Job, outcome: Outcome) -> Mapping[str, tuple[object, object]]:
    cost = outcome.cost
    return {
        "job": (receipt.execution_id, job.execution_id),
        "validator": (receipt.validator_hotkey, job.validator_hotkey),
        "circuit": (receipt.circuit_sha256, job.circuit_sha256),
        "provider": (receipt.provider, job.provider),
        "device": (receipt.device_id, job.device_id),
        "vendor's job": (receipt.provider_job_id, job.provider_job_id),
        "number of shots": (receipt.shots_requested, job.shots),
        "verdict": (receipt.verdict, job.verdict),
        "result": (receipt.counts_sha256, None if outcome.counts is None else counts_sha256(outcome.counts)),
        "cost": (
            (receipt.cost.amount, receipt.cost.currency, receipt.cost.kind),
            (cost and format(cost.amount, "f"), cost and cost.currency, outcome.cost_kind),
        ),
    }
