"""The operator's limits on the road of a job. Durations are seconds; each default says why it has this value."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

from qcompute.units import CURRENCY_PATTERN


class MinerSettings(BaseModel):
    """How much the daemon takes on and how long it tries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_inflight: int = Field(default=1000, ge=1)
    """Jobs not yet ended above which the job server is told that we accept no more (the subnet's own cap)."""

    queue_slack: int = Field(default=250, ge=0)
    """Jobs accepted above ``max_inflight`` all the same: validators learn of a full miner only with a delay."""

    validator_share: float = Field(default=0.5, gt=0, le=1)
    """The part of ``max_inflight`` one validator may fill, so that one cannot shut out the others."""

    max_shots: int = Field(default=1_000_000, ge=1)
    """More shots than this are refused before anything is downloaded."""

    job_deadline_seconds: float = Field(default=7 * 86400, gt=0)
    """A job that has not ended by then is cancelled and reported failed; vendor queues last days."""

    fetch_deadline_seconds: float = Field(default=900, gt=0)
    """A circuit that cannot be downloaded for so long fails the job; presigned URLs rarely live longer."""

    held_deadline_seconds: float = Field(default=86400, gt=0)
    """A held job fails as ``submit_unknown`` after this; validators must not be left waiting for ever."""

    second_look_seconds: float = Field(default=60, gt=0)
    """Where only a list of jobs protects from a second payment, a job must be absent from it twice, this far apart,
    before it is submitted again: lists lag behind creation."""

    unknown_status_deadline_seconds: float = Field(default=3600, gt=0)
    """A vendor status we do not understand is put up with for so long; then the job is held."""

    fetch_concurrency: int = Field(default=64, ge=1)
    """Downloads at once; slow hosts must not keep others waiting. Each may hold ``circuits.max_source_bytes``."""

    compile_processes: int = Field(default=1, ge=1)
    """Sandboxed compilers; each takes about 200 MB while in use and ends when idle."""

    provider_threads: int = Field(default=32, ge=1)
    """Threads for one provider's blocking calls."""

    delivery_concurrency: int = Field(default=96, ge=1)
    """Results delivered at once."""

    delivery_backoff_max_seconds: float = Field(default=60, gt=0)
    """The longest pause between two tries to deliver one result; tries never end."""

    page_size: int = Field(default=100, ge=1, le=1000)
    """Finished jobs in one reply; a dendrite allows 10 s and ours answers in milliseconds."""

    retention_days: float = Field(default=14, gt=0)
    """Closed jobs are kept this long for validators: the subnet pays over 14 days."""

    heartbeat_seconds: float = Field(default=30, gt=0)
    """How often the job server hears of us when nothing changed."""

    dry_run: bool = False
    """Do everything but the paid call: jobs are fetched, compiled, priced and then refused instead of submitted, and
    their users are told so. What was submitted before is finished."""

    shutdown_seconds: float = Field(default=20, gt=0)
    """After SIGTERM, stages get so long to finish what they are doing; nothing is lost when they do not."""


class BudgetSettings(BaseModel):
    """What may be spent with the account this daemon uses. Days and months are those of UTC. None sets no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_job: Decimal | None = Field(default=None, gt=0)
    """A job expected to cost more is refused."""

    per_day: Decimal | None = Field(default=None, gt=0)
    """Above this, spent or reserved, jobs wait until the next day and new ones are not taken."""

    per_month: Decimal | None = Field(default=None, gt=0)
    """The same for a month."""

    currency: str = Field(default="USD", pattern=CURRENCY_PATTERN)
    """Of the amounts here: what the account is priced in, or the unit it counts in, such as ``quantum_seconds``."""

    unpriced_cost: Decimal | None = Field(default=None, ge=0)
    """What a job counts, in ``currency``, whose cost cannot be told beforehand in it. None refuses such jobs as soon
    as any limit is set."""

    alert_at: float = Field(default=0.8, gt=0, le=1)
    """The part of a day's or month's budget at which a warning is logged, once."""
