"""``make demo``: the whole subnet in small, on loopback, with the unmodified miner and a real simulator.

Exit code 0 only when every job came out as it must: right counts delivered and paid, right refusals told, receipts
that verify, and a job server that heard Online and then Offline.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from qcompute.chain.keys import create_wallet
from qcompute.errors import QComputeError
from qcompute.local.demo_jobs import JOBS, MOCK_JOBS, DemoJob
from qcompute.local.miner_process import MinerProcess
from qcompute.local.platform import LocalPlatform
from qcompute.local.validator import Validator
from qcompute.receipts import verify_receipt
from qcompute.units import Counts, ExecutionId

DEADLINE_SECONDS: Final = 90.0
VISIT_SECONDS: Final = 0.3
BAR_WIDTH: Final = 24
_OK: Final = 200


@dataclass(slots=True)
class Shown:
    """One job as the table shows it."""

    job: DemoJob
    execution_id: ExecutionId
    sent_at: float
    status: str = "Created"
    device: str = "-"
    seconds: float = 0.0
    counts: Counts | None = None
    message: str | None = None
    receipt: str = "-"
    right: bool = False


class Demo:
    """One run in ``folder``."""

    def __init__(self, folder: Path, provider: str) -> None:
        self.folder = folder
        self.platform = LocalPlatform()
        self.shown: list[Shown] = []
        self._provider = provider
        self._began = time.monotonic()
        self.miner: MinerProcess | None = None
        self.validator: Validator | None = None

    async def start(self) -> None:
        """Platform, validator, miner: all up and serving."""
        await self.platform.start()
        signer = create_wallet("validator", "default", self.folder / "wallets-validator")
        environment = self.platform.miner_environment()
        self.miner = MinerProcess(
            self.folder, validators=[signer.hotkey], provider=self._provider, environment=environment
        )
        self.say(f"wallet   {self.folder}/wallets, hotkey {self.miner.signer.hotkey}")
        self.say(f"platform job server {self.platform.jobs.url}, token service {self.platform.tokens.url}")
        await self.miner.start()
        self.say(f"miner    neurons/miner.py, axon on port {self.miner.axon_port}, provider {self._provider}")
        self.platform.jobs.miner_hotkey = self.miner.signer.hotkey
        self.validator = Validator(
            signer,
            job_server_url=self.platform.jobs.url,
            tensorauth_url=self.platform.tokens.url,
            miner_hotkey=self.miner.signer.hotkey,
            miner_port=self.miner.axon_port,
            database=self.folder / "validator.sqlite3",
        )

    def send(self, jobs: Sequence[DemoJob]) -> None:
        """Queue the jobs at the job server; the validator takes one at each visit."""
        for job in jobs:
            execution_id = self.platform.jobs.add_job(job.qasm, job.shots, dict(job.options))
            self.shown.append(Shown(job, execution_id, time.monotonic()))

    async def until_done(self) -> None:
        """Let the validator visit until every job has ended, or the deadline."""
        if self.validator is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE_SECONDS):
                while any(shown.status not in ("Completed", "Failed") for shown in self.shown):
                    await self.validator.visit()
                    await self._look()
                    await asyncio.sleep(VISIT_SECONDS)
        for shown in self.shown:
            await self._check_receipt(shown)
            shown.right = self._is_right(shown)

    async def stop(self) -> int:
        """End everything; returns the miner's exit code."""
        code = await self.miner.stop() if self.miner is not None else 0
        if self.validator is not None:
            await self.validator.close()
        await self.platform.stop()
        return code

    def say(self, text: str) -> None:
        """One line of progress with the seconds since the start."""
        sys.stdout.write(f"{time.monotonic() - self._began:6.1f} s  {text}\n")
        sys.stdout.flush()

    def heard(self) -> list[str]:
        """The backend states the job server heard, without repeats."""
        states = [str(report["status"]) for report in self.platform.jobs.backend_reports]
        return [state for index, state in enumerate(states) if index == 0 or states[index - 1] != state]

    async def _look(self) -> None:
        for shown in self.shown:
            execution = self.platform.jobs.executions[shown.execution_id]
            if execution.status == shown.status:
                continue
            shown.status, shown.message = execution.status, execution.message
            shown.seconds = time.monotonic() - shown.sent_at
            shown.counts = self.platform.jobs.counts_of(shown.execution_id)
            self.say(f"job      {shown.job.title}: {shown.status}")

    async def _check_receipt(self, shown: Shown) -> None:
        document = await self._operator(f"/receipts/{shown.execution_id}")
        job = await self._operator(f"/jobs/{shown.execution_id}")
        if isinstance(job, dict):
            shown.device = str(job.get("device_id") or "-")
        if not isinstance(document, str):
            shown.receipt = "missing"
            return
        path = self.folder / f"receipt-{shown.execution_id}.json"
        path.write_text(document)
        try:
            receipt = verify_receipt(document)
        except QComputeError as error:
            shown.receipt = f"FALSE: {error}"
            return
        ours = self.miner is not None and receipt.miner_hotkey == self.miner.signer.hotkey
        shown.receipt = "verified" if ours and receipt.execution_id == shown.execution_id else "not ours"

    async def _operator(self, path: str) -> dict[str, Any] | str | None:
        """A document of the miner's operator port: receipts as their exact text, all else as JSON."""
        if self.miner is None:
            return None
        async with aiohttp.ClientSession() as session, session.get(self.miner.operator_url + path) as response:
            if response.status != _OK:
                return None
            return await response.text() if path.startswith("/receipts") else await response.json()

    def _is_right(self, shown: Shown) -> bool:
        if shown.receipt != "verified":
            return False
        if shown.job.expected is None:
            return shown.status == "Failed" and shown.job.words in (shown.message or "")
        if self._provider != "aer":
            return shown.status == "Completed" and shown.counts is not None
        return shown.status == "Completed" and shown.counts is not None and shown.job.expected(shown.counts)


def table(shown: Sequence[Shown]) -> str:
    """The jobs, each with its most frequent results as bars."""
    lines = [f"{'job':<28}{'status':<11}{'device':<18}{'time':>7}  {'receipt':<10}right"]
    for row in shown:
        verdict = _coloured("yes", "32") if row.right else _coloured("NO", "31")
        lines.append(
            f"{row.job.title:<28}{row.status:<11}{row.device:<18}{row.seconds:>5.1f} s  {row.receipt:<10}{verdict}"
        )
        lines += _bars(row.counts) if row.counts else [f"    {row.message or ''}"]
    return "\n".join(lines) + "\n"


def _bars(counts: Counts) -> list[str]:
    total = sum(counts.values())
    most = sorted(counts.items(), key=lambda item: -item[1])[:4]
    lines = [f"    {key}  {'█' * max(round(BAR_WIDTH * n / total), 1):<{BAR_WIDTH}}  {n}" for key, n in most]
    return lines + ([f"    … and {len(counts) - len(most)} more"] if len(counts) > len(most) else [])


def _coloured(text: str, code: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if plain else f"\033[{code}m{text}\033[0m"


async def run(*, keep: bool, provider: str) -> int:
    """The demo; see the module's text."""
    folder = Path(tempfile.mkdtemp(prefix="qcompute-demo-"))
    demo = Demo(folder, provider)
    code, miner_exit = 1, 0
    try:
        await demo.start()
        demo.send(JOBS if provider == "aer" else MOCK_JOBS)
        await demo.until_done()
        sys.stdout.write("\n" + table(demo.shown) + "\n")
        if keep and demo.miner is not None and demo.validator is not None:
            await _keep(demo, demo.miner, demo.validator)
    except QComputeError as error:
        sys.stdout.write(f"the demo failed: {error}\n")
    finally:
        miner_exit = await demo.stop()
    heard = demo.heard()
    right = bool(demo.shown) and all(shown.right for shown in demo.shown)
    if right and miner_exit == 0 and "Online" in heard and heard[-1] == "Offline":
        code = 0
    sys.stdout.write(
        f"job server heard  {' -> '.join(heard) or 'nothing'}\n"
        f"uploads           {len(demo.platform.store.puts)} for {sum(1 for s in demo.shown if s.counts)} results\n"
        f"files             {folder}  (miner.log, data/ledger.sqlite3, receipts)\n"
        f"check a receipt   {Path(sys.executable)} -m qcompute.receipts verify {folder}/receipt-….json\n"
        f"{'all jobs came out as they must' if code == 0 else 'NOT all jobs came out as they must'}\n"
    )
    if code != 0 and demo.miner is not None:
        sys.stdout.write(f"\nthe miner's last lines:\n{demo.miner.last_lines()}\n")
    return code


async def _keep(demo: Demo, miner: MinerProcess, validator: Validator) -> None:
    """Leave it running, and say how to use it."""
    url = demo.platform.jobs.url
    circuit = r"OPENQASM 2.0; include \"qelib1.inc\"; qreg q[1]; creg c[1]; h q[0]; measure q -> c;"
    sys.stdout.write(
        "It keeps running until Ctrl-C. Send a circuit of your own:\n\n"
        f"  curl -s {url}/v1/jobs -H 'Content-Type: application/json' \\\n"
        f'    -d \'{{"qasm": "{circuit}", "shots": 1000}}\'\n\n'
        f"and look at it with the execution_id it answers:\n\n  curl -s {url}/v1/jobs/EXECUTION_ID\n\n"
        f"The miner's dashboard, in a browser of this machine:\n\n  {miner.operator_url}/dashboard/\n\n"
        f"and its jobs in the terminal:\n\n"
        f"  {Path(sys.executable).with_name('qcompute')} jobs list --neuron.full_path {miner.folder}/data\n"
    )
    sys.stdout.flush()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    visiting = asyncio.create_task(validator.run(VISIT_SECONDS))
    await stop.wait()
    visiting.cancel()


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m qcompute.local.demo", description="The whole subnet in small.")
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    parser.add_argument("--provider", default="aer", choices=("aer", "mock"), help="what runs the jobs")
    wish = parser.parse_args()
    try:
        return asyncio.run(run(keep=wish.keep, provider=wish.provider))
    except KeyboardInterrupt:
        sys.stdout.write("interrupted; everything was stopped\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
