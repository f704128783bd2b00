"""Splitting the shots of one job over the cores of this machine: the same job in one piece and in two."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from qcompute.miner.job import State
from tests.bench.loading import OPEN_WIDE
from tests.bench.report import Figure
from tests.scene import Scene, running_scene

BACKEND: Final = "fake_guadalupe"
"""Sixteen qubits with their noise, as IBM measured it."""

QUBITS: Final = 16
LAYERS: Final = 4
SHOTS: Final = 600
NODES: Final = 2
LIMIT_SECONDS: Final = 540.0


async def split() -> list[Figure]:
    """A noisy 16-qubit circuit over 2 local nodes on 2 cores, beside one node: time from the request to the result."""
    with tempfile.TemporaryDirectory() as name:
        environment = OPEN_WIDE | {
            "QCOMPUTE_PROVIDERS__AER__PROCESSES": str(NODES),
            "QCOMPUTE_PROVIDERS__AER__NOISE_BACKENDS": f'["{BACKEND}"]',
        }
        async with running_scene(Path(name), provider="aer", environment=environment) as scene:
            await _seconds(scene, 4, parts=NODES)  # both processes are up and have read the noise model
            whole = await _seconds(scene, SHOTS, parts=1)
            halves = await _seconds(scene, SHOTS, parts=NODES)
    return [
        Figure("noisy 16 qubits over 2 nodes", SHOTS / halves, "shots/s", "one node, this run", SHOTS / whole),
    ]


async def _seconds(scene: Scene, shots: int, *, parts: int) -> float:
    """How long a job takes from the validator's request until its result is delivered."""
    options: dict[str, Any] = {"device": f"aer_{BACKEND}", "seed": shots + parts}
    if parts > 1:
        options["split"] = {"kind": "shots", "parts": parts}
    closed = (await scene.jobs_in())[State.CLOSED]
    scene.platform.jobs.add_job(_program(shots + parts), shots, options)
    began = time.perf_counter()
    await scene.hand_over(1)
    await scene.until_in(State.CLOSED, closed + (1 if parts == 1 else parts + 1), seconds=LIMIT_SECONDS)
    return time.perf_counter() - began


def _program(seed: int) -> str:
    """Layers of rotations and of gates between neighbours on a line."""
    choose = random.Random(seed)  # noqa: S311 - a circuit, not a secret
    lines = ['OPENQASM 2.0; include "qelib1.inc";', f"qreg q[{QUBITS}]; creg c[{QUBITS}];"]
    for layer in range(LAYERS):
        lines += [f"ry({choose.uniform(0, 3):.3f}) q[{qubit}];" for qubit in range(QUBITS)]
        lines += [f"cx q[{qubit}],q[{qubit + 1}];" for qubit in range(layer % 2, QUBITS - 1, 2)]
    return "\n".join([*lines, "measure q -> c;"])
