"""Jobs with all that the daemon would have stored of them, their receipts signed: what a check must find sound."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from qcompute.chain.keys import signer_from_uri
from qcompute.ledger.contract import Ledger
from qcompute.miner.job import CostKind, CountsSource, Job, NewJob, Outcome, State, Verdict
from qcompute.miner.router import token_of
from qcompute.receipts import build_receipt
from qcompute.testing.ledger_records import ALICE, SIGNED_URL, nonce
from qcompute.units import DeviceId, ExecutionId, Hotkey, ProviderJobId, ProviderKey, utc_now

CIRCUIT: Final = "OPENQASM 2.0; qreg q[1]; creg c[1]; measure q -> c;"
SIGNER: Final = signer_from_uri("//whole-jobs")
OUTCOME: Final = Outcome({"0": 60, "1": 40}, CountsSource.MEASURED, 100, None, CostKind.UNKNOWN, None, {}, {})

ROAD: Final = (State.ACCEPTED, State.READY, State.SUBMITTING, State.WAITING, State.SETTLED, State.CLOSED)


async def one_in_each_state(ledger: Ledger, *, prefix: str = "job") -> dict[State, Job]:
    """A job in every state, named after it."""
    return {state: await whole_job(ledger, f"{prefix}-{state}", state) for state in State}


async def whole_job(ledger: Ledger, execution_id: str, state: State, *, validator: Hotkey = ALICE) -> Job:
    """A job brought to ``state`` as the stages bring it there; a held one may have been submitted."""
    now = utc_now()
    new = NewJob(ExecutionId(execution_id), validator, SIGNED_URL, 100, {}, now, now + timedelta(days=7))
    # Signed a minute from now, so that a restore just made does not refuse it.
    await ledger.accept(new, nonce(time.time_ns() + 60 * 10**9, scope=execution_id))
    job = await ledger.get(new.execution_id)
    if job is None:
        raise LookupError(execution_id)
    for step in _steps(state):
        job = await _STEPS[step](ledger, job)
    return job


def _steps(state: State) -> Sequence[State]:
    return ROAD[1 : ROAD.index(state) + 1] if state in ROAD else (State.READY, State.SUBMITTING, State.HELD)


async def _ready(ledger: Ledger, job: Job) -> Job:
    sha256 = hashlib.sha256(CIRCUIT.encode()).hexdigest()
    return await ledger.save(job, replace(job, state=State.READY, circuit_sha256=sha256), circuit=CIRCUIT)


async def _submitting(ledger: Ledger, job: Job) -> Job:
    routed: dict[str, Any] = {
        "provider": ProviderKey("mock"),
        "device_id": DeviceId("mock_qpu_1"),
        "token": token_of(job),
    }
    return await ledger.save(job, replace(job, state=State.SUBMITTING, **routed))


async def _waiting(ledger: Ledger, job: Job) -> Job:
    name = f"vendor-{job.execution_id}"
    handle = {"provider_job_id": name, "device_id": job.device_id}
    marked = await ledger.save(job, replace(job, submit_started_at=job.received_at, submit_attempts=1))
    after = replace(marked, state=State.WAITING, provider_job_id=ProviderJobId(name), handle=handle)
    return await ledger.save(marked, replace(after, submitted_at=job.received_at))


async def _held(ledger: Ledger, job: Job) -> Job:
    marked = await ledger.save(job, replace(job, submit_started_at=job.received_at, submit_attempts=1))
    after = replace(marked, state=State.HELD, error_code="submit_unknown", error="it may have been submitted")
    return await ledger.save(marked, replace(after, due_at=job.received_at + timedelta(days=1)))


async def _settled(ledger: Ledger, job: Job) -> Job:
    after = replace(job, state=State.SETTLED, verdict=Verdict.SUCCEEDED, settled_at=job.received_at)
    return await ledger.save(job, after, outcome=OUTCOME, receipt=build_receipt(after, OUTCOME, SIGNER))


async def _closed(ledger: Ledger, job: Job) -> Job:
    return await ledger.save(job, replace(job, state=State.CLOSED, upload_id=f"up-{job.execution_id}"))


_STEPS: Final = {
    State.READY: _ready,
    State.SUBMITTING: _submitting,
    State.WAITING: _waiting,
    State.HELD: _held,
    State.SETTLED: _settled,
    State.CLOSED: _closed,
}
