"""``qcompute expect`` beside a running daemon: the value is right, and a kill makes no part run twice."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
import sys
from pathlib import Path
from typing import Any, Final

from tests.e2e.test_operator_day import answered, qcompute
from tests.scene import Scene, running_scene, until

ANGLE: Final = 0.8
CIRCUIT: Final = (
    f'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[4];\ncreg c[4];\nry({ANGLE}) q[0];\n'
    "cx q[0], q[1];\ncx q[1], q[2];\ncx q[2], q[3];\nmeasure q -> c;\n"
)
"""cos(ANGLE/2)|0000> + sin(ANGLE/2)|1111>: XXXX is sin(ANGLE) and each Z is cos(ANGLE)."""

OBSERVABLE: Final = "XXXX + 0.5*IIIZ"
EXACT: Final = math.sin(ANGLE) + 0.5 * math.cos(ANGLE)
WORDS: Final = ("--observable", OBSERVABLE, "--max-qubits", "2", "--shots", "20000", "--device", "aer/aer_statevector")

FEW_AT_A_TIME: Final = {
    "QCOMPUTE_MINER__MAX_INFLIGHT": "8",
    "QCOMPUTE_MINER__QUEUE_SLACK": "0",
    "QCOMPUTE_MINER__VALIDATOR_SHARE": "1",
}
"""So that the command is most likely killed while some parts are handed over and others are not."""


async def test_a_value_of_a_cut_circuit_survives_a_kill_and_no_part_runs_twice(tmp_path: Path) -> None:
    """The request's id is said before the first job; with it the same words go on, whatever happened to the command."""
    file = tmp_path / "four.qasm"
    file.write_text(CIRCUIT)
    async with running_scene(tmp_path, provider="aer", environment=FEW_AT_A_TIME) as scene:
        request = await killed_on_its_way(scene, file)
        begun = jobs_in(scene)
        told = await resumed(scene, file, request)
        assert abs(told["value"] - EXACT) < 5 * told["standard_error"]
        assert 0 < told["standard_error"] < 0.1
        assert (told["sampling_overhead"], told["measurements_left_out"]) == (9.0, 4)
        names = [part["execution_id"] for part in told["parts"]]
        assert jobs_in(scene) == set(names)
        assert begun <= set(names)
        assert submits_in(scene) == [1] * len(names)
        assert sum(part["shots"] for part in told["parts"]) == told["shots"] <= 20_000
        receipt = await answered(scene, "receipts", "export", names[0])
        assert receipt["receipts"][0]["execution_id"] == names[0]


async def killed_on_its_way(scene: Scene, file: Path) -> str:
    """The id of the request whose command was killed when its first jobs were there."""
    which = ("--neuron.full_path", str(scene.miner.folder / "data"), "--wallet.path", str(scene.miner.folder))
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qcompute.console", "expect", str(file), *WORDS, "--yes", "--json"),
        *(*which, "--wallet.name", "miner", "--provider", "aer"),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert command.stderr is not None
    async with asyncio.timeout(90):
        said = (await command.stderr.readline()).decode()

    async def begun() -> bool:
        return bool(jobs_in(scene))

    await until(begun, seconds=60, what="a part", facts=scene.facts)
    command.kill()
    await command.communicate()
    assert said.startswith("qcompute: request "), said
    return said.split()[2]


async def resumed(scene: Scene, file: Path, request: str) -> dict[str, Any]:
    code, out, err = await qcompute(scene, "expect", str(file), *WORDS, "--yes", "--json", "--resume", request)
    assert code == 0, err
    return json.loads(out)


def jobs_in(scene: Scene) -> set[str]:
    """The execution ids of all rows of the ledger."""
    with sqlite3.connect(f"file:{scene.miner.ledger_path}?mode=ro", uri=True) as ledger:
        return {row[0] for row in ledger.execute("SELECT execution_id FROM jobs")}


def submits_in(scene: Scene) -> list[int]:
    """How often each job was submitted."""
    with sqlite3.connect(f"file:{scene.miner.ledger_path}?mode=ro", uri=True) as ledger:
        return [row[0] for row in ledger.execute("SELECT submit_attempts FROM jobs")]
