"""What the writer of the ledger can be asked, one record for each writing method of the contract and one more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from qcompute.ledger.claims import Tenure
from qcompute.ledger.rows import Row
from qcompute.miner.job import Charge, Job, NewJob, Nonce, Outcome


@dataclass(frozen=True, slots=True)
class Accept:
    """`Ledger.accept`; answered with an `Intake`."""

    job: NewJob
    nonce: Nonce


@dataclass(frozen=True, slots=True)
class UseNonce:
    """`Ledger.use_nonce`; answered with whether it is new."""

    nonce: Nonce


@dataclass(frozen=True, slots=True)
class Save:
    """`Ledger.save`, and `Ledger.split`; answered with the stored job."""

    before: Job
    after: Job
    circuit: str | None
    outcome: Outcome | None
    receipt: str | None
    charge: Charge | None
    tenure: Tenure | None
    parts: tuple[Job, ...] = ()
    """`Ledger.split`: the rows that are added with it."""


@dataclass(frozen=True, slots=True)
class Postpone:
    """`Ledger.postpone`; answered with None."""

    rows: Sequence[Row]
    tenure: Tenure | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A lane is taken by whoever has the ledger to itself; answered with its new fence."""

    lane: str
    holder: str


@dataclass(frozen=True, slots=True)
class ForgetNonces:
    """`Ledger.forget_nonces`; answered with how many."""

    before_ns: int


@dataclass(frozen=True, slots=True)
class ForgetCharges:
    """`Ledger.forget_charges`; answered with how many."""

    before_us: int


@dataclass(frozen=True, slots=True)
class Purge:
    """A piece of `Ledger.purge`: at most ``limit`` jobs, those closed first; answered with how many."""

    closed_before_us: int
    limit: int


@dataclass(frozen=True, slots=True)
class Recount:
    """Writes nothing: the ledger's figures are read anew after the batch, where others write too."""


Operation: TypeAlias = Accept | UseNonce | Save | Postpone | Claim | ForgetNonces | ForgetCharges | Purge | Recount
