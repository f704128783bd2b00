"""What must hold whatever happened around the daemon: read from the ledger's file, the vendor's table and the platform.

A job that was answered ``success`` is never lost and never paid twice; one that was refused is never run.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qcompute.protocol import ExecutionStatus
from qcompute.units import ExecutionId
from tests.scene import Scene


@dataclass
class Answered:
    """The jobs brought to the miner, by what it said of them."""

    accepted: list[ExecutionId] = field(default_factory=list[ExecutionId])
    refused: list[ExecutionId] = field(default_factory=list[ExecutionId])
    words: Counter[str] = field(default_factory=Counter[str])
    """What was said when one was refused."""


async def bring(scene: Scene, answered: Answered, count: int) -> None:
    """Bring so many jobs, one at a time, and note what the miner says of each."""
    for (execution_id,) in (scene.add_jobs(1) for _ in range(count)):
        answer = await scene.validator.visit()
        if answer.success:
            answered.accepted.append(execution_id)
        else:
            answered.refused.append(execution_id)
            answered.words[answer.error_message or answer.message] += 1


def damage(ledger: Path) -> list[str]:
    """What SQLite finds wrong with the file; nothing when it is whole."""
    try:
        with sqlite3.connect(ledger) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    return [f"damaged: {one}" for one in found if one != "ok"]


def missing(ledger: Path, accepted: Sequence[ExecutionId]) -> list[str]:
    """Accepted jobs that have no row."""
    with sqlite3.connect(ledger) as connection:
        rows = {str(row[0]) for row in connection.execute("SELECT execution_id FROM jobs")}
    lost = set(accepted) - rows
    return [f"{len(lost)} accepted jobs have no row"] if lost else []


def wrong_payments(scene: Scene, accepted: Sequence[ExecutionId]) -> list[str]:
    """Where submits and jobs are not the same number."""
    submits = scene.vendor_submits()
    wrong: list[str] = []
    if len(submits) != len(accepted):
        wrong.append(f"{len(submits)} submits for {len(accepted)} jobs")
    if len({token for token, _ in submits}) != len(submits):
        wrong.append("a job was submitted twice")
    return wrong


async def all_ended(scene: Scene, answered: Answered, *, seconds: float = 90.0) -> list[str]:
    """Let every accepted job come to its end, and the miner to its own; what is wrong then, in words."""
    accepted = answered.accepted
    await scene.collected(len(accepted), seconds=seconds)
    rows = {row.execution_id: row for row in scene.validator.delivered}
    unclosed = {state: count for state, count in (await scene.jobs_in()).items() if count and state != "closed"}
    wrong = [f"rows are stuck: {unclosed}"] if unclosed else []
    if (code := await scene.miner.stop()) != 0:
        wrong.append(f"it stopped with code {code}")
    ledger = copied(scene)
    wrong += [*damage(ledger), *missing(ledger, accepted), *wrong_payments(scene, accepted)]
    if set(rows) != set(accepted):
        wrong.append("jobs came back that were not accepted, or accepted ones did not")
    failed = [row for row in rows.values() if row.status is not ExecutionStatus.COMPLETED]
    if failed:
        wrong.append(f"{len(failed)} jobs failed, the first with: {failed[0].errorMessage}")
    lacking = {row.upload_data_id for row in rows.values()} - set(scene.platform.store.objects)
    if lacking:
        wrong.append(f"{len(lacking)} results are not in the store")
    return wrong


def copied(scene: Scene) -> Path:
    """The ledger of a miner that has ended, copied out: SQLite does not look into another mount namespace."""
    there = scene.miner.folder / "judged"
    there.mkdir()
    for file in scene.miner.ledger_path.parent.glob(scene.miner.ledger_path.name + "*"):
        shutil.copy(file, there)
    return there / scene.miner.ledger_path.name
