"""What the vendor's, the job server's and the store's own tables say of a case that is over."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from qcompute.errors import QComputeError
from qcompute.ledger import open_ledger
from qcompute.ledger.contract import Ledger
from qcompute.miner.job import Job as Row
from qcompute.miner.job import State, Verdict
from qcompute.miner.providers.base import JobHandle
from qcompute.miner.providers.mock import MockAdapter, MockConfig
from qcompute.protocol import ExecutionData, ExecutionStatus
from qcompute.receipts.document import Receipt, counts_sha256, verify_receipt
from qcompute.units import Counts, ExecutionId
from tests.crash.lives import CrashScene
from tests.crash.stories import MOCK, Job


@dataclass(frozen=True, slots=True)
class Ended:
    """One job as the miner's ledger has it in the end; ``receipt`` is None when it does not verify.

    ``parts`` are those of a job that was divided.
    """

    id: ExecutionId
    job: Job
    row: Row | None
    receipt: Receipt | None
    parts: Sequence[Ended] = ()

    @property
    def at_vendor(self) -> Sequence[Ended]:
        """What was submitted: the job, or each of its parts."""
        return self.parts or [self]

    @property
    def was_held(self) -> bool:
        """Whether it ended because nobody could tell if it had been submitted."""
        return self.row is not None and self.row.error_code == "submit_unknown"


async def faults(scene: CrashScene) -> list[str]:
    """Every promise that did not hold, in words; none when all is well. The miner must have stopped."""
    ended = await _ended(scene)
    found = [*_vendor_faults(scene, ended), *_report_faults(scene, ended), *_upload_faults(scene)]
    for one in ended:
        found += [f"part of a job: {text}" for part in one.parts for text in _row_faults(scene, part)]
        rows = [row for row in scene.validator.delivered if row.execution_id == one.id]
        found += [f"{one.job.verdict} job: {text}" for text in (*_row_faults(scene, one), *_row_told(scene, one, rows))]
    return found


async def _ended(scene: CrashScene) -> list[Ended]:
    ledger = open_ledger(scene.ledger)
    try:
        return [await _found(ledger, id_, job) for id_, job in zip(scene.ids, scene.story.jobs, strict=True)]
    finally:
        await ledger.close()


async def _found(ledger: Ledger, id_: ExecutionId, job: Job) -> Ended:
    whole = Ended(id_, job, await ledger.get(id_), _verified(await ledger.receipt(id_)))
    one_piece = replace(job, parts=1)
    return replace(
        whole, parts=[await _found(ledger, part.execution_id, one_piece) for part in await ledger.parts(id_)]
    )


def _verified(text: str | None) -> Receipt | None:
    try:
        return None if text is None else verify_receipt(text)
    except QComputeError:
        return None


def _vendor_faults(scene: CrashScene, ended: list[Ended]) -> Iterator[str]:
    """Submits must equal jobs: what reached the vendor, by its own table."""
    with sqlite3.connect(scene.vendor_file) as cloud:
        submits = cloud.execute("SELECT token, job_id FROM submits").fetchall()
        created = cloud.execute("SELECT count(*) FROM jobs").fetchone()[0]
        packs = cloud.execute("SELECT count(DISTINCT job_id), count(*) FROM packed").fetchone()
    circuits = created - packs[0] + packs[1]
    paid = sum(one.job.parts for one in ended if one.job.reaches_vendor)
    # Of what was held before anything was sent, the vendor never heard.
    fewest = paid - sum(one.was_held for one in ended)
    if not fewest <= circuits <= paid or created != len(submits):
        yield f"{len(submits)} submits and {created} vendor jobs with {circuits} circuits for {paid} jobs and parts"
    if len({token for token, _ in submits}) != len(submits):
        yield "the vendor was asked twice for one job"
    rows = [piece.row for one in ended for piece in one.at_vendor if piece.row is not None]
    places = Counter(_place(row) for row in rows if row.provider_job_id is not None)
    if twice := [place for place, count in places.items() if count > 1]:
        yield f"two jobs have the result of one circuit: {twice}"


def _place(row: Row) -> tuple[str | None, int | None]:
    """A circuit at the vendor: its job, and its place in the pack."""
    return row.provider_job_id, (row.prepared or {}).get("pack_index")


def _report_faults(scene: CrashScene, ended: list[Ended]) -> Iterator[str]:
    """Nothing the miner reports as failed may have succeeded, and whatever ended without a result is reported."""
    for one in ended:
        history = scene.platform.jobs.executions[one.id].history
        told = {status for hotkey, status in history if hotkey == scene.miner.signer.hotkey}
        failed = one.row is not None and one.row.verdict is not Verdict.SUCCEEDED
        if told != ({"Failed"} if failed else set()):
            yield f"a job that ended as {one.row and one.row.verdict} was reported {sorted(told) or 'nothing'}"


def _upload_faults(scene: CrashScene) -> Iterator[str]:
    """Each result that counts is one object of its own."""
    counted = [row.upload_data_id for row in {row.execution_id: row for row in scene.validator.delivered}.values()]
    ids = [upload_id for upload_id in counted if upload_id is not None]
    if len(set(ids)) != len(ids):
        yield "two jobs share an upload"
    completed = {id_ for id_, one in scene.platform.jobs.executions.items() if one.status == "Completed"}
    if len(completed) != len(ids):
        yield f"{len(ids)} uploads were collected, and the job server knows of {len(completed)} completed jobs"


def _row_faults(scene: CrashScene, one: Ended) -> Iterator[str]:
    """Closed, ended as it must, and with a receipt that says the same."""
    row, receipt = one.row, one.receipt
    if row is None:
        yield "it is not in the ledger"
        return
    if row.state is not State.CLOSED:
        yield f"it is stuck in {row.state}"
    may_be_held = not scene.story.can_look and one.job.reaches_vendor and one.was_held
    if row.verdict is not one.job.verdict and not (may_be_held and row.verdict is Verdict.FAILED):
        yield f"it ended as {row.verdict}: {row.error}"
    if receipt is None:
        yield "its receipt does not verify"
        return
    said = (receipt.execution_id, receipt.verdict, receipt.provider_job_id, receipt.miner_hotkey)
    if said != (one.id, row.verdict, row.provider_job_id, scene.miner.signer.hotkey):
        yield f"its receipt says {said}"
    if len(one.parts) not in ({one.job.parts} if one.job.parts > 1 else {0}):
        yield f"it has {len(one.parts)} parts"
    if [part.execution_id for part in receipt.parts or ()] != [part.id for part in one.parts]:
        yield "its receipt names other parts"
    if sum(part.row.shots for part in one.parts if part.row is not None) not in {0, row.shots}:
        yield "its parts have other shots than it"
    counts = _counts_at_vendor(scene, one) if row.verdict is Verdict.SUCCEEDED else None
    if receipt.counts_sha256 != (None if counts is None else counts_sha256(counts)):
        yield "its receipt is for other counts than the vendor's"


def _row_told(scene: CrashScene, one: Ended, rows: list[ExecutionData]) -> Iterator[str]:
    """What the validator collected, once or several times."""
    if one.row is None:
        return
    if len({row.model_dump_json() for row in rows}) != 1:
        yield f"it was collected with {len(rows)} different contents"
        return
    succeeded = one.row.verdict is Verdict.SUCCEEDED
    status = ExecutionStatus.COMPLETED if succeeded else ExecutionStatus.FAILED
    if rows[0].status is not status:
        yield f"it was collected as {rows[0].status}"
    stored = scene.platform.store.objects.get(rows[0].upload_data_id or "")
    if stored != (_counts_at_vendor(scene, one) if succeeded else None):
        yield f"what was uploaded is not the vendor's result: {json.dumps(stored)}"


def _counts_at_vendor(scene: CrashScene, one: Ended) -> Counts | None:
    """The vendor's own result, that of all parts added up; None when it has none."""
    total: Counter[str] = Counter()
    for piece in one.at_vendor:
        counts = None if piece.row is None else _row_at_vendor(scene, piece.row)
        if counts is None:
            return None
        total.update(counts)
    return dict(total)


def _row_at_vendor(scene: CrashScene, row: Row) -> Counts | None:
    settings = {
        name.removeprefix(MOCK).lower(): value
        for name, value in scene.story.environment.items()
        if name.startswith(MOCK)
    }
    vendor = MockAdapter(MockConfig.model_validate(settings | {"state_path": scene.vendor_file}))
    try:
        job_id, place = _place(row)
        handle = JobHandle(provider_job_id=job_id or "", device_id=row.device_id or "", pack_index=place)
        return (vendor.get_job_receipt(handle).results or {}).get("measurementCounts")
    finally:
        vendor.close()
