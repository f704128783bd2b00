"""The operator's command beside a real daemon: copies, restores, held jobs, the reference's database."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from qcompute.connections.definitions import CHOICE, FILE, Choice, Definition, Definitions
from qcompute.ledger.check import check_ledger
from qcompute.local.miner_process import MinerProcess
from qcompute.local.service import Fault, FaultKind
from qcompute.miner.commands import socket_file
from qcompute.miner.job import State
from qcompute.protocol import ExecutionStatus
from tests.ledger.reference_file import at, completed, failed, under_way, write
from tests.scene import Scene, running_scene, until

MOCK = "QCOMPUTE_PROVIDERS__MOCK__"

BLIND = {f"{MOCK}LOSE_SUBMIT_ANSWERS": "1000", f"{MOCK}IDEMPOTENCY": "none"}
"""Every submit's answer is lost, and the vendor cannot look a job up."""


async def qcompute(miner: MinerProcess, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of one command on a miner's ledger, as its operator runs it."""
    which = ["--neuron.full_path", str(miner.folder / "data"), "--wallet.path", str(miner.folder / "wallets")]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qcompute.console"),
        *(*arguments, *which, "--wallet.name", "miner", "--provider", "mock"),
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"], "HOME": str(miner.folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    assert "Traceback" not in err.decode()
    return process.returncode, out.decode(), err.decode()


async def did(miner: MinerProcess, *arguments: str) -> str:
    """The output of a command that must work."""
    code, out, err = await qcompute(miner, *arguments)
    assert (code, err) == (0, ""), err
    return out


async def seconds_for(scene: Scene, count: int) -> float:
    scene.add_jobs(count)
    began = time.monotonic()
    await scene.hand_over(count)
    return time.monotonic() - began


def collected_up_to(scene: Scene, cursor: str) -> None:
    """Give the validator a cursor from an earlier life."""
    statement = "INSERT OR REPLACE INTO last_circuit VALUES (?, ?)"
    scene.validator._database.execute(statement, (scene.miner.signer.hotkey, cursor))


async def test_copies_while_the_daemon_accepts_jobs_hold_up_nobody(tmp_path: Path) -> None:
    async with running_scene(tmp_path) as scene:
        # Warm: the first job starts the compiler, and a ledger with some weight takes a while to copy.
        await seconds_for(scene, 40)
        alone = await seconds_for(scene, 60)
        ended = asyncio.Event()

        async def copy_on_and_on() -> int:
            number = 0
            while not ended.is_set():
                await did(scene.miner, "ledger", "backup", str(tmp_path / f"copy-{number}.sqlite3"))
                number += 1
            return number

        copying = asyncio.create_task(copy_on_and_on())
        beside = 0.0
        for _ in range(3):
            beside = max(beside, await seconds_for(scene, 60))
        ended.set()
        copies = await copying
        assert copies >= 1
        # A copy takes a core's time from the daemon, and no more: a daemon that waited would take the copies' seconds.
        assert beside < 10 * max(alone, 0.2), (alone, beside)
        for number in range(copies):
            assert check_ledger(tmp_path / f"copy-{number}.sqlite3").problems == []
        report = await did(scene.miner, "ledger", "check")
        assert "result    sound" in report
        assert f"signed by {scene.miner.signer.hotkey}" in report or "receipts" not in report
        await refused_beside_the_daemon(scene, tmp_path)
        assert await scene.miner.stop() == 0
        assert not socket_file(scene.miner.ledger_path).exists()


async def refused_beside_the_daemon(scene: Scene, folder: Path) -> None:
    """What replaces or fills a ledger is not for one that a daemon has."""
    reference = write(folder / "reference.db", [completed("a", 5)])
    for command in (("restore", str(folder / "copy-0.sqlite3")), ("import-reference", str(reference))):
        code, _, err = await qcompute(scene.miner, "ledger", *command)
        assert code == 2
        assert re.fullmatch(r"qcompute: Process \d+ already works on this ledger .*\n", err)


async def test_after_a_restore_nothing_in_the_copy_is_paid_for_twice(tmp_path: Path) -> None:
    """The copy is made while jobs are not submitted yet; then they are, and more come; then the copy is put back."""
    copy = tmp_path / "copy.sqlite3"
    async with running_scene(tmp_path) as scene:
        # Circuits that do not come keep the jobs where they are: accepted.
        scene.platform.circuits.faults.append(Fault("GET", FaultKind.STATUS, times=None))
        early = scene.add_jobs(6)
        await scene.hand_over(6)
        await did(scene.miner, "ledger", "backup", str(copy))
        scene.platform.circuits.faults.clear()
        late = scene.add_jobs(3)
        await scene.hand_over(3)
        await scene.collected(9)
        assert len(scene.vendor_submits()) == 9
        await scene.miner.kill()

        assert "6 jobs may have been submitted" in await did(scene.miner, "ledger", "restore", str(copy))
        await scene.restart()
        await scene.until_in(State.CLOSED, 6)
        submits = scene.vendor_submits()
        assert len(submits) == 9
        assert len({token for token, _ in submits}) == 9
        again = {row.execution_id: row for row in scene.validator.delivered}
        assert set(again) == {*early, *late}
        assert {row.status for row in again.values()} == {ExecutionStatus.COMPLETED}
        assert "result    sound" in await did(scene.miner, "ledger", "check")


async def test_after_a_restore_a_connection_that_was_used_since_is_asked_too(tmp_path: Path) -> None:
    """Jobs went to the connection, then the operator went back to the settings: asked alone, their account has none.

    They were submitted there a second time.
    """
    copy, trial = tmp_path / "copy.sqlite3", tmp_path / "trial.sqlite3"
    async with running_scene(tmp_path) as scene:
        data = scene.miner.folder / "data"
        Definitions(data / FILE).add("trial", Definition(provider="mock", settings={"state_path": str(trial)}))
        scene.platform.circuits.faults.append(Fault("GET", FaultKind.STATUS, times=None))
        scene.add_jobs(2)
        await scene.hand_over(2)
        await did(scene.miner, "ledger", "backup", str(copy))
        await scene.miner.kill()
        Choice(data / CHOICE).write("trial")
        await scene.restart()
        scene.platform.circuits.faults.clear()
        await scene.until_in(State.CLOSED, 2)
        await scene.miner.kill()
        at_trial = replace(scene, vendor_file=trial)
        assert (len(at_trial.vendor_submits()), len(scene.vendor_submits())) == (2, 0)
        Choice(data / CHOICE).write(None)
        await did(scene.miner, "ledger", "restore", str(copy))
        await scene.restart()
        await scene.until_in(State.CLOSED, 2)
        assert (len(at_trial.vendor_submits()), len(scene.vendor_submits())) == (2, 0)


async def test_a_restored_job_that_never_was_submitted_is_submitted_once(tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite3"
    async with running_scene(tmp_path) as scene:
        scene.platform.circuits.faults.append(Fault("GET", FaultKind.STATUS, times=None))
        scene.add_jobs(3)
        await scene.hand_over(3)
        await did(scene.miner, "ledger", "backup", str(copy))
        await scene.miner.kill()
        scene.platform.circuits.faults.clear()
        await did(scene.miner, "ledger", "restore", str(copy))
        await scene.restart()
        await scene.until_in(State.CLOSED, 3)
        assert len(scene.vendor_submits()) == 3


async def test_an_operator_decides_about_held_jobs_through_the_running_daemon(tmp_path: Path) -> None:
    async with running_scene(tmp_path, environment=BLIND) as scene:
        failed_id, adopted_id, released_id = scene.add_jobs(3)
        await scene.hand_over(3)
        await scene.until_in(State.HELD, 3)
        theirs = {token: job_id for token, job_id in scene.vendor_submits() if token}
        listed = await did(scene.miner, "jobs", "list", "--state", "held")
        assert listed.count("submit_unknown") == 3
        shown = json.loads(await did(scene.miner, "jobs", "show", adopted_id, "--json"))
        assert (shown["state"], shown["error_code"]) == ("held", "submit_unknown")
        with closing(sqlite3.connect(scene.miner.ledger_path)) as ledger:
            (token,) = ledger.execute("SELECT token FROM jobs WHERE execution_id = ?", (adopted_id,)).fetchone()

        assert "is settled" in await did(scene.miner, "jobs", "fail", failed_id, "--reason", "the vendor lost it")
        assert "is waiting" in await did(scene.miner, "jobs", "adopt", adopted_id, theirs[token], "--reason", "seen")
        assert "is submitting" in await did(scene.miner, "jobs", "release", released_id)
        # It looks, cannot tell, and is held again: a release never pays a second time.
        await scene.until_in(State.HELD, 1)
        assert len(scene.vendor_submits()) == 3
        code, _, err = await qcompute(scene.miner, "jobs", "fail", adopted_id, "--reason", "too late")
        assert code == 1
        assert "not held" in err
        await did(scene.miner, "jobs", "release", released_id, "--never-submitted")

        async def paid_again() -> bool:
            return len(scene.vendor_submits()) == 4

        await until(paid_again, seconds=30, what="the operator's own word is taken", facts=scene.facts)
        await scene.collected(2)
        rows = {row.execution_id: row for row in scene.validator.delivered}
        assert rows[adopted_id].status is ExecutionStatus.COMPLETED
        assert rows[failed_id].errorMessage == "the vendor lost it"
        log = scene.miner.log.read_text()
        assert f"operator (uid {os.getuid()}): fail {failed_id}" in log
        assert f"operator (uid {os.getuid()}): adopt {adopted_id}: held -> waiting (seen)" in log
        assert "result    sound" in await did(scene.miner, "ledger", "check")


async def test_with_the_daemon_stopped_the_same_is_done_to_the_ledger(tmp_path: Path) -> None:
    async with running_scene(tmp_path, environment=BLIND) as scene:
        (execution_id,) = scene.add_jobs(1)
        await scene.hand_over(1)
        await scene.until_in(State.HELD, 1)
        await scene.miner.kill()
        code, out, err = await qcompute(scene.miner, "jobs", "fail", execution_id, "--reason", "given up")
        assert (code, out) == (0, f"{execution_id} is settled\n")
        assert f"operator (uid {os.getuid()}): fail {execution_id}: held -> settled (given up)" in err
        await scene.restart()
        await scene.collected(1)
        (row,) = scene.validator.delivered
        assert (row.status, row.errorMessage) == (ExecutionStatus.FAILED, "given up")
        assert "result    sound" in await did(scene.miner, "ledger", "check")


async def test_a_validator_of_the_reference_goes_on_collecting(tmp_path: Path) -> None:
    """Its old cursor is what it got from the reference miner; jobs under way there end here."""
    async with running_scene(tmp_path) as scene:
        (ours,) = scene.add_jobs(1)
        await scene.hand_over(1)
        await scene.until_in(State.CLOSED, 1)
        ((_, vendor_id),) = scene.vendor_submits()
        await scene.miner.stop()
        for file in scene.miner.ledger_path.parent.glob("ledger.sqlite3*"):
            file.unlink()
        rows = [
            completed("long-ago", 600),
            completed("seen", 120),
            completed("unseen", 60),
            failed("unseen-too", 60, "no luck"),
            under_way("under-way", 30, "Running", provider="mock", provider_job_id=vendor_id, device_id="mock_qpu_1"),
            under_way("lost", 20, "Pending"),
        ]
        reference = write(tmp_path / "reference.db", rows)
        assert "4  finished: closed" in await did(scene.miner, "ledger", "import-reference", str(reference))
        await scene.restart()
        collected_up_to(scene, at(119))
        await scene.collected(3)
        delivered = {row.execution_id: row for row in scene.validator.delivered}
        assert set(delivered) == {"unseen", "unseen-too", "under-way"}
        assert delivered["unseen"].upload_data_id == "up-unseen"
        assert delivered["under-way"].status is ExecutionStatus.COMPLETED
        assert (await scene.jobs_in())[State.HELD] == 1
        assert len(scene.vendor_submits()) == 1, f"{ours} was the only one"


async def test_a_ledger_of_a_newer_qcompute_is_refused_by_daemon_and_command(tmp_path: Path) -> None:
    async with running_scene(tmp_path) as scene:
        assert await scene.miner.stop() == 0
        with closing(sqlite3.connect(scene.miner.ledger_path)) as ledger, ledger:
            ledger.execute("UPDATE alembic_version SET version_num = 'r9999'")
        before = scene.miner.ledger_path.read_bytes()
        refusals = {
            ("ledger", "check"),
            ("ledger", "backup", str(tmp_path / "copy")),
            ("jobs", "list"),
            ("jobs", "show", "a"),
            ("jobs", "fail", "a", "--reason", "b"),
            ("ledger", "import-reference", str(write(tmp_path / "reference.db", [completed("a", 5)]))),
        }
        for command in refusals:
            code, _, err = await qcompute(scene.miner, *command)
            assert code == 2, command
            assert "newer qcompute (schema r9999" in err, command
            assert err.count("\n") == 1, command
        process = await asyncio.create_subprocess_exec(
            *scene.miner.command(),
            cwd=tmp_path,
            env=scene.miner.full_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 2
        assert b"newer qcompute (schema r9999" in said
        assert scene.miner.ledger_path.read_bytes() == before
