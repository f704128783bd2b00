"""The real daemon while its surroundings break: disk, database file, clock. ``python -m tests.crash.surroundings``.

Each case brings jobs, breaks something while they are in every state, brings more, and mends it. Expected of each: a
log line that names the trouble; a ledger that is whole; every job that was answered ``success`` ends well and is paid
once; and a daemon that goes on by itself or ends with a code other than 0, after which it is started again.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from qcompute.local.miner_process import MinerDied
from qcompute.local.service import Fault, FaultKind
from tests.crash.surroundings_judge import Answered, all_ended, bring
from tests.crash.surroundings_troubles import DURING, STARTS, Stage, StartTrouble, Trouble
from tests.reliability import Record
from tests.scene import Scene, running_scene, until_true

BEFORE: Final = 16
"""Jobs under way when the trouble begins."""
MEANWHILE: Final = 4
"""Jobs brought while it lasts."""
NOTICED_SECONDS: Final = 30.0
ENDED_SECONDS: Final = 90.0
_MOCK: Final = "QCOMPUTE_PROVIDERS__MOCK__"
SETTINGS: Final[dict[str, str]] = {
    f"{_MOCK}LATENCY_SECONDS": "0.2",
    f"{_MOCK}RUN_SECONDS": "1.5",
    "QCOMPUTE_MINER__PROVIDER_THREADS": "8",
    "QCOMPUTE_MINER__SHUTDOWN_SECONDS": "4",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a case: how the daemon took it, and which promises did not hold."""

    outcome: str
    wrong: list[str]
    facts: dict[str, int] = field(default_factory=dict[str, int])


async def run_during(trouble: Trouble, folder: Path) -> Verdict:
    """Break something under a daemon at work."""
    with trouble.stage(folder) as stage:
        settings = SETTINGS | dict(stage.environment)
        async with running_scene(folder, environment=settings, miner_process=stage.miner_process) as scene:
            answered = Answered()
            _slow_ends(scene)
            await bring(scene, answered, BEFORE)
            outcome, wrong = await _through(trouble, stage, scene, answered)
            wrong += await all_ended(scene, answered, seconds=ENDED_SECONDS)
            facts = {"accepted": len(answered.accepted), "refused": len(answered.refused)}
            return Verdict(outcome, wrong, facts)


async def _through(trouble: Trouble, stage: Stage, scene: Scene, answered: Answered) -> tuple[str, list[str]]:
    process = scene.miner.process
    assert process is not None
    mark = scene.miner.log.stat().st_size
    await stage.begin(scene)
    try:
        await bring(scene, answered, MEANWHILE)
        try:
            # It may end meanwhile; else the trouble lasts as long as it should.
            await asyncio.wait_for(process.wait(), trouble.seconds)
        except TimeoutError:
            await until_true(lambda: _said(scene, mark, trouble.words), what="a log line", seconds=NOTICED_SECONDS)
    finally:
        await stage.end(scene)
    wrong = [] if _said(scene, mark, trouble.words) else [f"no log line says {trouble.words!r}"]
    if process.returncode is None and trouble.must_end:
        wrong.append("it did not end")
    if process.returncode is None:
        return "went on by itself", wrong
    code = process.returncode
    if code == 0:
        wrong.append("it ended as if all were well")
    await scene.restart()
    return f"ended with code {code}; went on after a restart", wrong


async def run_start(trouble: StartTrouble, folder: Path) -> Verdict:
    """Break something while the daemon is down, and start it; then mend it and start it again."""
    with trouble.stage(folder) as stage:
        settings = SETTINGS | dict(stage.environment)
        async with running_scene(folder, environment=settings, miner_process=stage.miner_process) as scene:
            answered = Answered()
            scene.platform.circuits.faults.append(Fault("GET", FaultKind.DELAY, seconds=600, times=BEFORE // 2))
            await bring(scene, answered, BEFORE)
            await scene.miner.stop()
            scene.platform.circuits.faults.clear()
            wrong, outcome = await _start_in_vain(trouble, stage, scene)
            await scene.restart()
            wrong += await all_ended(scene, answered, seconds=ENDED_SECONDS)
            return Verdict(outcome, wrong, {"accepted": len(answered.accepted)})


async def _start_in_vain(trouble: StartTrouble, stage: Stage, scene: Scene) -> tuple[list[str], str]:
    mark = scene.miner.log.stat().st_size
    await stage.begin(scene)
    try:
        await scene.miner.start()
    except MinerDied:
        process = scene.miner.process
        code = process.returncode if process else None
        wrong = [] if code == trouble.code else [f"ended with code {code} and not {trouble.code}"]
    else:
        code, wrong = 0, ["it started"]
        await scene.miner.stop()
    finally:
        await stage.end(scene)
    if not _said(scene, mark, trouble.words):
        wrong.append(f"no line says {trouble.words!r}; it says: {_since(scene, mark)[-400:]}")
    if "Traceback" in _since(scene, mark):
        wrong.append("an operator is shown a traceback")
    return wrong, f"refused to start with code {code}"


def _slow_ends(scene: Scene) -> None:
    """Some circuits come late and some uploads hang a while, so that jobs are at both ends of the road."""
    scene.platform.circuits.faults.append(Fault("GET", FaultKind.DELAY, seconds=4, times=4))
    scene.platform.store.faults.append(Fault("PUT", FaultKind.DELAY, seconds=3, times=3))


def _since(scene: Scene, mark: int) -> str:
    with scene.miner.log.open("rb") as log:
        log.seek(mark)
        return log.read().decode(errors="replace")


def _said(scene: Scene, mark: int, words: str) -> bool:
    return words in _since(scene, mark)


def run(trouble: Trouble | StartTrouble) -> Verdict:
    """One case in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="surroundings-") as name:
        folder = Path(name)
        case = run_during(trouble, folder) if isinstance(trouble, Trouble) else run_start(trouble, folder)
        try:
            return asyncio.run(case)
        except (AssertionError, MinerDied) as error:
            return Verdict("did not come to an end", [str(error)])


def main() -> int:
    """Run every case whose name has all words of the command line; 1 when one was wrong."""
    record = Record("surroundings")
    for trouble in (one for one in (*DURING, *STARTS) if all(word in one.name for word in sys.argv[1:])):
        began = time.monotonic()
        seen = run(trouble)
        seconds = round(time.monotonic() - began, 1)
        outcome = "; ".join([seen.outcome, *seen.wrong])
        record.add(trouble.name, outcome, ok=not seen.wrong, seconds=seconds, **seen.facts)
        sys.stdout.write(f"{'WRONG' if seen.wrong else 'ok   '} {seconds:6.1f} s  {trouble.name}: {outcome}\n")
        sys.stdout.flush()
    return 1 if record.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
