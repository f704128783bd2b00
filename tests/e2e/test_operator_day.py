"""The operator's command beside one running daemon: what it looks at, runs, follows, cancels and delivers."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from qcompute.console.__main__ import main
from qcompute.local.demo_jobs import BELL
from qcompute.local.service import Fault, FaultKind
from qcompute.miner.job import State
from tests.scene import Scene, running_scene
from tests.terminal import ROOT, Terminal

SLOW = {"QCOMPUTE_PROVIDERS__MOCK__RUN_SECONDS": "0.5", "QCOMPUTE_BUDGET__PER_DAY": "100"}

HUNG = "mock_sim_1"


async def qcompute(scene: Scene, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of one command, in this process: importing its parts takes longer than all it does.

    The daemon is a process of its own all the same, and hears it through its socket.
    """
    out, err = io.StringIO(), io.StringIO()
    which = (
        "--neuron.full_path",
        str(scene.miner.folder / "data"),
        "--wallet.path",
        str(scene.miner.folder / "wallets"),
    )
    with redirect_stdout(out), redirect_stderr(err):
        code = await asyncio.to_thread(main, [*arguments, *which, "--wallet.name", "miner", "--provider", "mock"])
    return code, out.getvalue(), err.getvalue()


async def did(scene: Scene, *arguments: str) -> str:
    """The output of a command that must work."""
    code, out, err = await qcompute(scene, *arguments)
    assert (code, err) == (0, ""), err
    return out


async def answered(scene: Scene, *arguments: str) -> dict[str, Any]:
    """The one document of a command that must work."""
    return json.loads(await did(scene, *arguments, "--json"))


async def test_an_operator_s_day(tmp_path: Path) -> None:
    async with running_scene(tmp_path, environment=SLOW) as scene:
        await looks_around(scene)
        await runs_a_circuit(scene, tmp_path)
        await is_asked_at_a_terminal(scene, tmp_path)
        await cancels_a_job_before_its_submit(scene)
        await delivers_at_once(scene)
        await reads_the_log(scene)
        assert "result    sound" in await did(scene, "ledger", "check")
        assert await scene.miner.stop() == 0
        await finds_no_daemon(scene, tmp_path)


async def looks_around(scene: Scene) -> None:
    devices = await answered(scene, "devices")
    assert devices["from"] == "daemon"
    assert [device["device_id"] for device in devices["accounts"][0]["devices"]] == ["mock_qpu_1", "mock_sim_1"]
    budget = await answered(scene, "budget")
    # The daemon's own words: this command was given no budget.
    assert (budget["from"], budget["accounts"][0]["periods"]["day"]["limit"]) == ("daemon", "100")


async def runs_a_circuit(scene: Scene, folder: Path) -> None:
    """The result stays here: neither job server nor validators hear of it, and there is a receipt."""
    file = folder / "bell.qasm"
    file.write_text(BELL)
    estimate = await answered(scene, "run", str(file), "--shots", "200", "--estimate")
    assert (estimate["account"], estimate["device_id"], estimate["num_qubits"]) == ("mock", "mock_qpu_1", 2)
    assert scene.vendor_submits() == []
    code, _, err = await qcompute(scene, "run", str(file))
    assert (code, "say --yes" in err) == (2, True)
    ran = await answered(scene, "run", str(file), "--shots", "200", "--device", HUNG, "--yes")
    assert (ran["job"]["verdict"], ran["job"]["device_id"], sum(ran["counts"].values())) == ("succeeded", HUNG, 200)
    assert len(scene.vendor_submits()) == 1
    receipt = folder / "receipt.json"
    receipt.write_text(await did(scene, "receipts", "export", ran["execution_id"]))
    verified = await answered(scene, "receipts", "verify", str(receipt), "--hotkey", scene.miner.signer.hotkey)
    assert verified["receipt"]["validator_hotkey"] == scene.miner.signer.hotkey
    assert "00" in await did(scene, "run", str(file), "--shots", "50", "--yes")
    assert scene.platform.store.objects == {}
    await scene.validator.visit()
    assert scene.validator.delivered == []
    file.write_text('OPENQASM 2.0;\ninclude "/etc/passwd";\nqreg q[1];')
    code, _, err = await qcompute(scene, "run", str(file), "--yes")
    assert (code, "line 2" in err, err.count("\n")) == (1, True, 1)
    file.write_text(BELL)
    code, _, err = await qcompute(scene, "run", str(file), "--device", "nowhere", "--yes")
    assert (code, "nowhere" in err) == (1, True)


async def is_asked_at_a_terminal(scene: Scene, folder: Path) -> None:
    """The cost is shown before the question; a no spends nothing, a yes shows the road, the counts and what it was."""
    paid, before = scene.vendor_submits(), await answered(scene, "budget")
    code, screen = await asyncio.to_thread(at_a_terminal, scene, folder / "bell.qasm", "n")
    assert (code, screen.endswith("nothing was submitted\n")) == (1, True), screen
    assert screen.index("USD expected") < screen.index("Run it? [y/N]")
    assert scene.vendor_submits() == paid
    assert await answered(scene, "budget") == before

    code, screen = await asyncio.to_thread(at_a_terminal, scene, folder / "bell.qasm", "y")
    assert code == 0, screen
    road = screen[screen.index("Run it? [y/N]: y") : screen.index("RESULT")]
    assert "waiting" in road
    assert "closed ━━━" in road
    drawn = [line.split() for line in screen.splitlines() if "█" in line]
    assert {line[0] for line in drawn} <= {"00", "01", "10", "11"}
    assert sum(int(line[1]) for line in drawn) == 40
    assert max(len(line[3]) for line in drawn) == 30
    assert " USD\n" in screen[screen.index("\ncost ") :]
    assert len(scene.vendor_submits()) == len(paid) + 1


def interrupted(scene: Scene, circuit: Path) -> str:
    """The id of a job whose operator presses Ctrl-C while ``qcompute run`` waits for it."""
    with Terminal(*run_at_a_terminal(scene, circuit), environ={"HOME": str(scene.miner.folder)}) as terminal:
        terminal.shows("Run it? [y/N]: ")
        terminal.types("y")
        terminal.shows("waiting")
        terminal.interrupts()
        assert terminal.ends() == 130, terminal.screen
    ((told, look),) = re.findall(
        r"^qcompute: (\S+) goes on without you:\n  qcompute (jobs show \1 .*)$", terminal.screen, re.MULTILINE
    )
    # Pasted it shows the job: it left out the flags that say where the miner's folder is.
    shown = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-m", "qcompute.console", *shlex.split(look)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(scene.miner.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told in shown.stdout, shown.stderr
    assert "Traceback" not in terminal.screen
    return told


def run_at_a_terminal(scene: Scene, circuit: Path) -> list[str]:
    words = ["-m", "qcompute.console", "run", str(circuit), "--shots", "40"]
    return [*words, "--provider", "mock", "--neuron.full_path", str(scene.miner.folder / "data")]


def at_a_terminal(scene: Scene, circuit: Path, answer: str) -> tuple[int, str]:
    """Exit code and screen of ``qcompute run``, whose question was answered."""
    with Terminal(*run_at_a_terminal(scene, circuit), environ={"HOME": str(scene.miner.folder)}) as terminal:
        terminal.shows("Run it? [y/N]: ")
        terminal.types(answer)
        return terminal.ends(), terminal.screen


async def cancels_a_job_before_its_submit(scene: Scene) -> None:
    scene.platform.circuits.faults.append(Fault("GET", FaultKind.STATUS, times=None))
    (execution_id,) = scene.add_jobs(1)
    await scene.hand_over(1)
    said = await answered(scene, "jobs", "cancel", execution_id, "--reason", "not wanted")
    assert (said["state"], said["verdict"]) == ("settled", "cancelled")
    scene.platform.circuits.faults.clear()
    listed = await answered(scene, "jobs", "list", "--text", "NOT WANTED", "--verdict", "cancelled")
    assert [job["execution_id"] for job in listed["jobs"]] == [execution_id]
    await scene.collected(1)
    (row,) = scene.validator.delivered
    assert (row.execution_id, row.errorMessage) == (execution_id, "not wanted")
    code, _, err = await qcompute(scene, "jobs", "cancel", execution_id)
    assert (code, "has ended" in err) == (1, True)


async def delivers_at_once(scene: Scene) -> None:
    """A job is followed while its result cannot be delivered; asked for again, it is."""
    scene.platform.store.faults.append(Fault("PUT", FaultKind.STATUS, times=None))
    (execution_id,) = scene.add_jobs(1)
    await scene.hand_over(1)
    tail = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qcompute.console", "jobs", "tail", execution_id, "--json"),
        *("--ledger.path", str(scene.miner.ledger_path)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert tail.stdout is not None
    while (step := json.loads(await tail.stdout.readline()))["error_code"] != "delivery_failed":
        assert step["state"] != "closed"
    shown = await answered(scene, "jobs", "show", execution_id)
    assert (shown["state"], shown["error_code"]) == ("settled", "delivery_failed")
    assert "nothing: delivery is tried until it works" in shown["advice"]
    scene.platform.store.faults.clear()
    assert (await answered(scene, "jobs", "retry-delivery", execution_id))["state"] in ("settled", "closed")
    rest, _ = await asyncio.wait_for(tail.communicate(), 60)
    last = json.loads(rest.splitlines()[-1])
    assert (tail.returncode, last["state"], last["verdict"]) == (0, "closed", "succeeded")


async def reads_the_log(scene: Scene) -> None:
    lines = (await did(scene, "logs", str(scene.miner.log), "--action", "ready", "--json")).splitlines()
    assert [json.loads(line)["level"] for line in lines] == ["info"]
    assert "the operator's own" in await did(scene, "logs", str(scene.miner.log), "--action", "intake")


async def finds_no_daemon(scene: Scene, folder: Path) -> None:
    code, out, err = await qcompute(scene, "run", str(folder / "bell.qasm"), "--yes", "--json")
    assert (code, json.loads(out)["error"]["code"], err.count("\n")) == (3, "no_daemon", 1)
    budget = await answered(scene, "budget")
    assert budget["from"] == "ledger"


async def test_a_job_is_cancelled_at_its_vendor_and_an_operator_s_own_survives_a_kill(tmp_path: Path) -> None:
    """It is on disk as a whole before the command is answered. One whose operator does not wait goes on as well."""
    # Until the daemon is started anew no job ends by itself, however long the commands take.
    environment = {"QCOMPUTE_PROVIDERS__MOCK__QUEUE_SECONDS": "600", "QCOMPUTE_MINER__SECOND_LOOK_SECONDS": "1"}
    async with running_scene(tmp_path, environment=environment) as scene:
        (execution_id,) = scene.add_jobs(1)
        await scene.hand_over(1)
        await scene.until_in(State.WAITING, 1)
        assert "is asked to end" in await did(scene, "jobs", "cancel", execution_id)
        await scene.collected(1)
        (row,) = scene.validator.delivered
        assert row.errorMessage == "cancelled: this miner's operator called the job off"

        file = tmp_path / "bell.qasm"
        file.write_text(BELL)
        left = await asyncio.to_thread(interrupted, scene, file)
        await scene.until_in(State.WAITING, 1)
        told = await answered(scene, "run", str(file), "--yes", "--no-wait")
        await scene.miner.kill()
        await scene.restart(QCOMPUTE_PROVIDERS__MOCK__QUEUE_SECONDS="0")
        await scene.until_in(State.CLOSED, 3)
        for own in (left, told["execution_id"]):
            assert (await answered(scene, "jobs", "show", own))["verdict"] == "succeeded"
        assert len(scene.vendor_submits()) == 3
