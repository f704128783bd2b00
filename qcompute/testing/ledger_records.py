"""Jobs, nonces and outcomes to put into a ledger, and ways to bring a job to a state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from qcompute.ledger.contract import Ledger
from qcompute.miner.job import CostKind, CountsSource, Job, NewJob, Nonce, Outcome, State, Verdict
from qcompute.units import DeviceId, ExecutionId, Hotkey, IdempotencyToken, Money, ProviderJobId, ProviderKey

START_OF_TIME: Final = datetime(2026, 11, 21, 2, 46, 51, tzinfo=UTC)
"""What a `SetClock` says at first."""

ALICE: Final = Hotkey("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY")
BOB: Final = Hotkey("5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty")

SIGNED_URL: Final = "https://bucket.example/circuits/1.qasm?X-Amz-Signature=5b1eb0a7c0ffee"

_TO_STATE: Final[Mapping[State, tuple[State, ...]]] = {
    State.ACCEPTED: (),
    State.READY: (State.READY,),
    State.SUBMITTING: (State.READY, State.SUBMITTING),
    State.WAITING: (State.READY, State.SUBMITTING, State.WAITING),
    State.HELD: (State.READY, State.SUBMITTING, State.HELD),
    State.SETTLED: (State.SETTLED,),
    State.CLOSED: (State.SETTLED, State.CLOSED),
}
"""The moves that bring a job from accepted to each state."""


class SetClock:
    """A clock that stands until it is set or moved, in either direction."""

    def __init__(self, now: datetime = START_OF_TIME) -> None:
        self.now = now

    def __call__(self) -> datetime:
        """The time it was set to."""
        return self.now

    def move(self, seconds: float) -> None:
        """Go on, or back, by some seconds."""
        self.now += timedelta(seconds=seconds)


def new_job(
    execution_id: str, *, validator: Hotkey = ALICE, url: str = SIGNED_URL, received_at: datetime = START_OF_TIME
) -> NewJob:
    """A request with a presigned URL and the configuration the subnet's client sends."""
    return NewJob(
        execution_id=ExecutionId(execution_id),
        validator_hotkey=validator,
        input_data_url=url,
        shots=1000,
        configuration_data={"optimization_level": 1, "device": "sim", "nested": {"seeds": [1, None, 2.5]}},
        received_at=received_at,
        deadline_at=received_at + timedelta(days=7),
    )


def nonce(value_ns: int, *, scope: str = "uuid", hotkey: Hotkey = ALICE, strictly_growing: bool = True) -> Nonce:
    """A dendrite's nonce, or one of ``btauth/1`` when it need not grow."""
    return Nonce(hotkey, scope, value_ns, strictly_growing=strictly_growing)


def own_nonce(execution_id: str) -> Nonce:
    """A nonce that no job of another id has: its scope is the id."""
    return nonce(1, scope=execution_id)


def full_job(job: Job) -> Job:
    """The job with something in every column that a caller may set, its state as it was."""
    at = job.received_at + timedelta(microseconds=123_457)
    return replace(
        job,
        verdict=Verdict.SUCCEEDED,
        due_at=at,
        attempts=3,
        circuit_sha256="c" * 64,
        provider=ProviderKey("mock"),
        device_id=DeviceId("mock/grün"),
        token=IdempotencyToken("job-token-1"),
        submit_attempts=2,
        submit_started_at=at,
        estimate=Money(Decimal("0.10"), "USD"),
        provider_job_id=ProviderJobId("vendor-1"),
        handle={"provider_job_id": "vendor-1", "device_id": "mock/grün"},
        submitted_at=at,
        vendor_status="IN_QUEUE",
        cancel_requested_at=at,
        upload_id="upload-1",
        error_code="unavailable",
        error="the vendor is away",
        settled_at=at,
        prepared={"measurement": {"registers": [{"name": "c0", "size": 2}], "measured": [[0, 1]]}, "pack_index": 1},
        placement={"policy": "cheapest", "candidates": [{"account": "mock", "reason": "grün"}], "current": 0},
        parent_id=ExecutionId("whole"),
    )


def succeeded() -> Outcome:
    """An outcome with counts and an exact cost."""
    return Outcome(
        counts={"00": 480, "11": 520},
        counts_source=CountsSource.MEASURED,
        shots_returned=1000,
        cost=Money(Decimal("0.30000000000000004"), "EUR"),
        cost_kind=CostKind.ACTUAL,
        message=None,
        timestamps={"created": "2026-11-21T02:46:51Z"},
        metadata={"backend": {"name": "sim"}},
    )


def failed(message: str = "calibration failed") -> Outcome:
    """An outcome without counts."""
    return Outcome(None, None, None, None, CostKind.UNKNOWN, message, {}, {})


async def accepted(ledger: Ledger, execution_id: str, **details: Any) -> Job:  # noqa: ANN401 - those of `new_job`
    """A job just accepted."""
    await ledger.accept(new_job(execution_id, **details), own_nonce(execution_id))
    job = await ledger.get(ExecutionId(execution_id))
    if job is None:
        raise LookupError(execution_id)
    return job


async def brought_to(ledger: Ledger, execution_id: str, state: State, **details: Any) -> Job:  # noqa: ANN401 - as above
    """A job brought to a state on the allowed road; it has a verdict once it has settled."""
    job = await accepted(ledger, execution_id, **details)
    for step in _TO_STATE[state]:
        verdict = Verdict.SUCCEEDED if step in {State.SETTLED, State.CLOSED} else None
        job = await ledger.save(job, replace(job, state=step, verdict=verdict, upload_id=f"up-{execution_id}"))
    return job
