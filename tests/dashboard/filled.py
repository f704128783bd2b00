"""A ledger with everything a page can show, much of it written by somebody who means harm."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from qcompute.chain.contract import Signer
from qcompute.ledger import open_ledger
from qcompute.ledger.contract import Ledger
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import CostKind, CountsSource, Job, Outcome, State, Verdict
from qcompute.miner.placement import Candidate, Placement, Policy, Price, Rejection
from qcompute.receipts import build_receipt
from qcompute.testing.ledger_records import new_job, own_nonce
from qcompute.units import DeviceId, ExecutionId, Hotkey, Money, ProviderJobId, ProviderKey, utc_now

HOSTILE: Final = (
    "\"'><script>window.pwned=1</script><img src=x onerror=window.pwned=1><svg/onload=window.pwned=1>"
    "{{7*7}}{%raw%}</pre></script><a href=javascript:window.pwned=1>x</a>\u202e\x1b[31m"
)
"""Whatever a vendor or a validator may write."""

BELL: Final = (
    'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[3];\ncreg c[3];\nh q[0];\ncx q[0],q[1];\ncx q[1],q[2];\n'
    "measure q -> c;\n"
)

HELD: Final = ExecutionId("held-one")
DONE: Final = ExecutionId("done-0001")
EVIL: Final = ExecutionId("evil-job")
EVIL_HOTKEY: Final = Hotkey(f"5Evil{HOSTILE}")


async def fill(file: Path, signer: Signer, *, closed: int) -> None:
    """So many closed jobs, one in seven of them failed, one hostile all over, and two that are held."""
    file.parent.mkdir(parents=True, exist_ok=True)
    ledger = open_ledger(LedgerSettings(path=file))
    try:
        for first in range(0, closed, 500):
            last = min(first + 500, closed)
            await asyncio.gather(*(_closed(ledger, signer, number) for number in range(first, last)))
        await _evil(ledger, signer)
        await _held(ledger, HELD)
        await _held(ledger, ExecutionId("held-two"))
    finally:
        await ledger.close()


async def _accepted(ledger: Ledger, name: str, *, minutes_ago: float, hotkey: Hotkey | None = None) -> Job:
    job = new_job(name, received_at=utc_now() - timedelta(minutes=minutes_ago))
    await ledger.accept(job if hotkey is None else replace(job, validator_hotkey=hotkey), own_nonce(name))
    found = await ledger.get(ExecutionId(name))
    assert found is not None
    return found


async def _closed(ledger: Ledger, signer: Signer, number: int) -> None:
    job = await _accepted(ledger, f"done-{number:04}", minutes_ago=30 + number / 100)
    failed = number % 7 == 3
    began = job.received_at
    counts = {"000": 480, "111": 489, "010": 17, "101": 14}
    message = "the device was recalibrated while the job ran" if failed else None
    settled = replace(
        job,
        state=State.SETTLED,
        verdict=Verdict.FAILED if failed else Verdict.SUCCEEDED,
        circuit_sha256="ab" * 32,
        provider=ProviderKey("mock"),
        device_id=DeviceId("mock-qpu" if number % 2 else "mock-sim"),
        provider_job_id=ProviderJobId(f"vendor-{number}"),
        submit_attempts=1,
        submit_started_at=began + timedelta(seconds=1.2),
        submitted_at=began + timedelta(seconds=2.1),
        settled_at=began + timedelta(seconds=75),
        vendor_status="COMPLETED",
        placement=_placement(),
        error_code="failed" if failed else None,
        error=message,
    )
    outcome = Outcome(
        counts=None if failed else counts,
        counts_source=None if failed else CountsSource.MEASURED,
        shots_returned=None if failed else 1000,
        cost=Money(Decimal("1.03"), "USD"),
        cost_kind=CostKind.ACTUAL,
        message=message,
        timestamps={"created": "2026-11-21T02:46:51Z"},
        metadata={"backend": {"name": "mock-qpu"}},
    )
    receipt = build_receipt(settled, outcome, signer)
    circuit = BELL if number == 1 else None
    ready = await ledger.save(job, replace(job, state=State.READY), circuit=circuit)
    saved = await ledger.save(ready, replace(settled, version=ready.version), outcome=outcome, receipt=receipt)
    await ledger.save(saved, replace(saved, state=State.CLOSED, upload_id=f"up-{number}"))


async def _evil(ledger: Ledger, signer: Signer) -> None:
    job = await _accepted(ledger, EVIL, minutes_ago=20, hotkey=EVIL_HOTKEY)
    settled = replace(
        job,
        state=State.SETTLED,
        verdict=Verdict.REFUSED,
        configuration_data={HOSTILE: HOSTILE, "nested": [{"a": HOSTILE}]},
        provider=ProviderKey(HOSTILE),
        device_id=DeviceId(HOSTILE),
        provider_job_id=ProviderJobId(HOSTILE),
        vendor_status=HOSTILE,
        upload_id=HOSTILE,
        settled_at=job.received_at + timedelta(seconds=1),
        placement=_placement(HOSTILE),
        error_code=HOSTILE,
        error=HOSTILE * 30,
    )
    outcome = Outcome(
        counts={"0": 1, HOSTILE: 2},
        counts_source=CountsSource.SAMPLED,
        shots_returned=3,
        cost=None,
        cost_kind=CostKind.UNKNOWN,
        message=HOSTILE,
        timestamps={HOSTILE: HOSTILE},
        metadata={"words": HOSTILE},
    )
    saved = await ledger.save(job, settled, outcome=outcome, receipt=build_receipt(settled, outcome, signer))
    await ledger.save(saved, replace(saved, state=State.CLOSED))


async def _held(ledger: Ledger, name: ExecutionId) -> None:
    job = await _accepted(ledger, name, minutes_ago=12)
    ready = await ledger.save(job, replace(job, state=State.READY, circuit_sha256="cd" * 32), circuit=BELL)
    began = job.received_at + timedelta(seconds=2)
    submitting = await ledger.save(
        ready,
        replace(
            ready,
            state=State.SUBMITTING,
            provider=ProviderKey("mock"),
            device_id=DeviceId("mock-qpu"),
            submit_attempts=1,
            submit_started_at=began,
            placement=_placement(),
        ),
    )
    await ledger.save(
        submitting,
        replace(
            submitting,
            state=State.HELD,
            due_at=utc_now() + timedelta(days=2),
            error_code="submit_unknown",
            error="the vendor's answer was lost, and it cannot be asked for a job by its token",
        ),
    )


def _placement(words: str = "") -> dict[str, object]:
    return Placement(
        policy=Policy.CHEAPEST,
        asked=words or "any device",
        candidates=(
            Candidate(
                account="mock",
                device_id=words[:80] or "mock-qpu",
                device_type="QPU",
                estimate=Price(amount=Decimal("1.03"), currency="USD"),
                reason=words or "the cheapest that can run it",
            ),
            Candidate(account="mock", device_id="mock-sim", device_type="SIMULATOR", reason="dearer"),
        ),
        rejections=(Rejection(account="other", reason=words or "5 qubits, and the circuit needs 27"),),
    ).document()
