"""A hundred thousand jobs that wait at a vendor, and a million that are over; and ten thousand when the daemon dies."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qcompute.chain.keys import signer_from_uri
from qcompute.local.demo_jobs import BELL
from qcompute.miner.job import State
from tests.bench import parked
from tests.bench.filling import fill
from tests.bench.loading import OPEN_WIDE, hanging_host, load
from tests.bench.process import cpu_seconds, peak_bytes
from tests.bench.report import Figure
from tests.scene import VALIDATOR_URI, Scene, running_scene

WAITING: Final = 100_000
CLOSED: Final = 1_000_000
CADENCE_SECONDS: Final = 60.0
WINDOW_SECONDS: Final = 120.0
"""A whole number of rounds: all fall due at once, and a part of a round would count as none or as one."""
IN_FLIGHT: Final = 10_000
ROOT: Final = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True, slots=True)
class Seen:
    """What one daemon was like. Rates are a second; ``core`` is the part of one that polling took."""

    core: float
    peak_megabytes: float
    polls: float
    accepted: float
    collect_ms: float


async def waiting() -> list[Figure]:
    """100,000 jobs waiting, polled every 60 s in batches, without and with 1,000,000 closed ones behind them."""
    young = await _watched(closed=0)
    old = await _watched(closed=CLOSED)
    bare = bare_polling()
    history = "no history, this run"
    return [
        Figure("100,000 waiting: CPU", old.core * 100, "% of a core", "aim", 5.0, higher_is_better=False),
        Figure(
            "100,000 waiting: CPU",
            old.core * 100,
            "% of a core",
            "a bare table's, this run",
            bare * 100,
            higher_is_better=False,
        ),
        Figure("100,000 waiting: memory", old.peak_megabytes, "MB", "aim", 300.0, higher_is_better=False),
        Figure("polls, each job every 60 s", old.polls, "jobs/s", "wanted", WAITING / CADENCE_SECONDS),
        Figure("accepted, 1,000,000 rows behind", old.accepted, "jobs/s", history, young.accepted),
        Figure(
            "collect, 1,000,000 rows behind", old.collect_ms, "ms", history, young.collect_ms, higher_is_better=False
        ),
    ]


async def _watched(*, closed: int) -> Seen:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        validator = signer_from_uri(VALIDATOR_URI).hotkey
        ledger = folder / "data" / "ledger.sqlite3"
        counts = {"waiting": WAITING, "closed": closed}
        await asyncio.to_thread(fill, ledger, validator=validator, account=parked.PROVIDER, **counts)
        async with running_scene(folder, provider=parked.PROVIDER, environment=_environment(folder, 60)) as scene:
            core, polls = await _polling(folder, scene)
            port, hotkey = scene.miner.axon_port, scene.miner.signer.hotkey
            ahead = f"9999-12-31 23:59:59.000000|{_ledger_id(ledger)}|{10**17}"
            collect = await load(port, hotkey, connections=1, requests=300, last_circuit=ahead)
            urls = [hanging_host(scene)]
            accept = await load(port, hotkey, connections=16, requests=100, urls=urls, last_circuit=ahead)
            return Seen(core, _peak(scene) / 1e6, polls, accept["per_second"], collect["p50_ms"])


async def _polling(folder: Path, scene: Scene) -> tuple[float, float]:
    """The part of a core used while all jobs are polled at their pace, and polls a second."""
    deadline = time.monotonic() + 120
    while sum(handles for _, handles, _ in parked.poll_lines(folder)) < WAITING:  # the first round, after the start
        if time.monotonic() > deadline:
            raise RuntimeError(f"the first round of polls did not end: {scene.miner.last_lines(10)}")
        await asyncio.sleep(0.5)
    used, began = _used(scene), time.monotonic()
    await asyncio.sleep(WINDOW_SECONDS)
    used, ended = _used(scene) - used, time.monotonic()
    polled = sum(handles for at, handles, _ in parked.poll_lines(folder) if began <= at < ended)
    if polled < WAITING:
        raise RuntimeError(f"{polled} polls in {ended - began:.0f} s are less than one for each of {WAITING} jobs")
    return used / (ended - began), polled / (ended - began)


def bare_polling() -> float:
    """The part of a core that a mere table takes for the same: what is due is read, and made due a minute later."""
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder) / "bare.sqlite3")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE jobs (id TEXT PRIMARY KEY, due REAL, handle TEXT)")
        database.execute("CREATE INDEX due ON jobs (due, id)")
        rows = ((f"waiting-{number:07}", number / WAITING, "x" * 200) for number in range(WAITING))
        database.executemany("INSERT INTO jobs VALUES (?, ?, ?)", rows)
        database.commit()
        began = time.process_time()
        for first in range(0, WAITING, parked.BATCH):
            due = first / WAITING, (first + parked.BATCH) / WAITING
            found = database.execute("SELECT id, handle FROM jobs WHERE due >= ? AND due < ?", due).fetchall()
            database.executemany("UPDATE jobs SET due = due + 60 WHERE id = ?", [(row[0],) for row in found])
            database.commit()
        return (time.process_time() - began) / CADENCE_SECONDS


async def resume() -> list[Figure]:
    """10,000 jobs in flight, kill -9, restart: until each has been asked for again; and submits for each job."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = _environment(folder, 1.0) | {parked.DISTINCT: "1"}
        async with running_scene(folder, provider=parked.PROVIDER, environment=environment) as scene:
            port, hotkey = scene.miner.axon_port, scene.miner.signer.hotkey
            urls = [scene.platform.circuits.add(f"c{number}", f"{BELL}// {number}\n") for number in range(IN_FLIGHT)]
            await load(port, hotkey, connections=50, requests=IN_FLIGHT // 50, urls=urls)
            # The last of them are on their way when the daemon dies: marked, paid for, not yet stored.
            await _until_submitted(folder, IN_FLIGHT - 20, scene)
            await scene.miner.kill()
            lines = len(parked.poll_lines(folder))
            began = time.monotonic()
            await scene.restart()
            ready = time.monotonic() - began
            resumed = await _until_all_asked(folder, lines, scene) - began
            await scene.until_in(State.WAITING, IN_FLIGHT, seconds=60)
            submits = _submits(folder)
    return [
        Figure("10,000 resumed after kill -9", resumed, "s", "aim", 5.0, higher_is_better=False),
        Figure("of that, until it serves", ready, "s", "all of it", resumed, higher_is_better=False),
        Figure("submits for 10,000 jobs", submits, "submits", "jobs", IN_FLIGHT, higher_is_better=False),
    ]


async def _until_submitted(folder: Path, count: int, scene: Scene) -> None:
    deadline = time.monotonic() + 600
    while _submits(folder) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{_submits(folder)} submitted: {await scene.facts()}")
        await asyncio.sleep(0.02)


async def _until_all_asked(folder: Path, lines: int, scene: Scene) -> float:
    """When the last of the jobs was asked for by the process started after so many lines."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for at, _, distinct in parked.poll_lines(folder)[lines:]:
            if distinct >= IN_FLIGHT:
                return at
        await asyncio.sleep(0.2)
    raise RuntimeError(f"not all jobs were asked for again: {await scene.facts()}")


def _submits(folder: Path) -> int:
    with closing(parked.cloud(folder)) as cloud:
        return cloud.execute("SELECT count(*) FROM submits").fetchone()[0]


def _environment(folder: Path, interval_seconds: float) -> dict[str, str]:
    own = {"PYTHONPATH": ROOT, parked.FOLDER: str(folder), parked.INTERVAL: str(interval_seconds)}
    return OPEN_WIDE | own


def _ledger_id(ledger: Path) -> str:
    with closing(sqlite3.connect(ledger)) as database:
        return database.execute("SELECT ledger_id FROM meta").fetchone()[0]


def _used(scene: Scene) -> float:
    return cpu_seconds(_pid(scene))


def _peak(scene: Scene) -> int:
    return peak_bytes(_pid(scene))


def _pid(scene: Scene) -> int:
    if scene.miner.process is None or scene.miner.process.returncode is not None:
        raise RuntimeError(f"the miner does not run; its last lines:\n{scene.miner.last_lines(30)}")
    return scene.miner.process.pid
