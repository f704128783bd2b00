"""A miner that is killed, again and again, at the points a case names, while its jobs go on."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from typing_extensions import override

from qcompute.chain.keys import signer_from_uri
from qcompute.ledger.settings import LedgerSettings
from qcompute.local.dendrite import Answer
from qcompute.local.miner_process import MinerDied, MinerProcess
from qcompute.local.platform import LocalPlatform
from qcompute.local.validator import Validator
from qcompute.protocol import COLLECT_ONLY
from qcompute.testing import crash_run
from qcompute.testing.crash_points import CrashPoint, Journal
from qcompute.units import ExecutionId
from tests.crash.stories import SHOTS, Story
from tests.ledger.postgres_server import ledger_database, shared_server
from tests.scene import VALIDATOR_URI

CASE_SECONDS: Final = 90.0
"""No case takes this long, however slow the machine: a job that is not done by then is lost."""

_PAUSE_SECONDS: Final = 0.05
_OK: Final = 200


class CrashingMiner(MinerProcess):
    """The miner with crash points; ``fatal`` is where its next life ends."""

    fatal: CrashPoint | None = None
    compiled: Path | None = None
    lives: int = 0

    @property
    def journals(self) -> list[Journal]:
        """What each life passed."""
        return [Journal.read(self._journal(life)) for life in range(1, self.lives + 1)]

    def add_environment(self, **more: str) -> None:
        """Give more of it to every later life."""
        self._environment |= more

    def _journal(self, life: int) -> Path:
        return self.folder / f"life-{life}.points"

    @override
    async def start(self, **environment: str) -> None:
        self.lives += 1
        await super().start(**environment)

    @override
    def command(self) -> list[str]:
        python, _, *arguments = super().command()
        launcher = [python, crash_run.__file__, "--journal", str(self._journal(self.lives))]
        if self.fatal is not None:
            launcher += ["--kill-at", str(self.fatal)]
        if self.compiled is not None:
            launcher += ["--compiled", str(self.compiled)]
        return [*launcher, "--", *arguments]


class PatientValidator(Validator):
    """Asks again when a miner does not answer. The reference reports such a job as failed, whatever becomes of it."""

    @override
    async def _visit(self) -> Answer:
        job = await self._next_job()
        fields = job or {"execution_id": COLLECT_ONLY, "input_data_url": "", "shots": 0, "configuration_data": {}}
        while True:
            asked = fields | {"last_circuit": self._cursor()}
            answer = await self._dendrite.query("127.0.0.1", self.miner_port, self._miner, asked)
            if answer.status == _OK or job is None:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        await self._take(fields["execution_id"], answer)
        return answer


class Store(StrEnum):
    """Where the miner's ledger lies."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"


@dataclass
class CrashScene:
    """Everything that runs in one case."""

    story: Story
    platform: LocalPlatform
    miner: CrashingMiner
    validator: PatientValidator
    vendor_file: Path
    ledger: LedgerSettings
    ids: list[ExecutionId]


class Trouble(Exception):
    """The case did not come to its end; the text says why."""


@asynccontextmanager
async def staged(
    story: Story, folder: Path, compiled: Path | None = None, store: Store = Store.SQLITE
) -> AsyncGenerator[CrashScene]:
    """Everything but the miner's process runs; the jobs wait at the job server."""
    with ExitStack() as stack:
        database = stack.enter_context(ledger_database()) if store is Store.POSTGRES else None
        async with _staged(story, folder, compiled, database) as scene:
            yield scene


@asynccontextmanager
async def _staged(
    story: Story, folder: Path, compiled: Path | None, database: str | None
) -> AsyncGenerator[CrashScene]:
    platform = LocalPlatform()
    await platform.start()
    signer = signer_from_uri(VALIDATOR_URI)
    vendor_file = folder / "vendor.sqlite3"
    miner = CrashingMiner(
        folder,
        validators=[signer.hotkey],
        provider="mock",
        environment=_environment(platform, vendor_file) | story.environment,
    )
    ledger = LedgerSettings(path=miner.ledger_path)
    if database is not None:
        url = shared_server().url(database)
        ledger = ledger.model_copy(update={"url": SecretStr(url)})
        miner.add_environment(QCOMPUTE_LEDGER__URL=url)
    miner.compiled = compiled
    platform.jobs.miner_hotkey = miner.signer.hotkey
    validator = PatientValidator(
        signer,
        job_server_url=platform.jobs.url,
        tensorauth_url=platform.tokens.url,
        miner_hotkey=miner.signer.hotkey,
        miner_port=1,
    )
    ids = [platform.jobs.add_job(job.qasm, SHOTS, job.options) for job in story.jobs]
    try:
        yield CrashScene(story, platform, miner, validator, vendor_file, ledger, ids)
    finally:
        await miner.kill()
        await validator.close()
        await platform.stop()


def _environment(platform: LocalPlatform, vendor_file: Path) -> dict[str, str]:
    return platform.miner_environment() | {
        "QCOMPUTE_AXON__REQUESTS_PER_SECOND": "100000",
        "QCOMPUTE_AXON__REQUEST_BURST": "100000",
        "QCOMPUTE_MINER__HEARTBEAT_SECONDS": "2",
        "QCOMPUTE_PROVIDERS__MOCK__STATE_PATH": str(vendor_file),
    }


async def live(scene: CrashScene, fatal: Sequence[CrashPoint]) -> None:
    """Let the miner live until each of the points has killed it or was never reached, and all jobs are collected.

    Then it is stopped with SIGTERM, which may be where it is killed.

    Raises:
        Trouble: jobs were not collected in time, or the miner ended otherwise.
    """
    keeper = _Keeper(scene, fatal)
    keeping = asyncio.create_task(keeper.keep())
    collecting = asyncio.create_task(_collect_all(scene))
    try:
        async with asyncio.timeout(CASE_SECONDS):
            await asyncio.wait({keeping, collecting}, return_when=asyncio.FIRST_COMPLETED)
            if not keeping.done():
                await collecting
                keeper.stop()
            await keeping
            if not collecting.done():
                raise Trouble("the miner stopped by itself")
    except TimeoutError:
        raise Trouble(f"not done after {CASE_SECONDS:g} s: {scene.miner.last_lines(5)}") from None
    finally:
        for task in (keeping, collecting):
            task.cancel()
        await asyncio.gather(keeping, collecting, return_exceptions=True)


class _Keeper:
    """Starts the miner whenever it was killed."""

    def __init__(self, scene: CrashScene, fatal: Sequence[CrashPoint]) -> None:
        self._scene = scene
        self._fatal = list(fatal)
        self._stopping = False
        self._told = 0

    def stop(self) -> None:
        """End the miner's life, and any later one, with SIGTERM."""
        self._stopping = True
        miner = self._scene.miner
        # Before it is ready it has no handler and would simply end; a second SIGTERM would end it at once.
        can_hear = self._told < miner.lives and (miner.folder / "ready.json").exists()
        if can_hear and miner.process is not None and miner.process.returncode is None:
            self._told = miner.lives
            miner.process.send_signal(signal.SIGTERM)

    async def keep(self) -> None:
        """Until an orderly end."""
        miner, validator = self._scene.miner, self._scene.validator
        settings: Mapping[str, str] = {}
        while True:
            miner.fatal = self._fatal.pop(0) if self._fatal else None
            try:
                await miner.start(**settings)
            except MinerDied:
                await self._killed()
                settings = self._scene.story.later
                continue
            validator.miner_port = miner.axon_port
            if self._stopping:
                self.stop()
            if await self._ended() == 0 and self._stopping:
                return
            await self._killed()
            settings = self._scene.story.later

    async def _ended(self) -> int:
        process = self._scene.miner.process
        return -1 if process is None else await process.wait()

    async def _killed(self) -> None:
        """Raises `Trouble` unless it was killed where it was to be."""
        miner = self._scene.miner
        code = await self._ended()
        if code != -signal.SIGKILL or miner.fatal is None or miner.journals[-1].killed_at != miner.fatal:
            raise Trouble(f"life {miner.lives} ended with {code}: {miner.last_lines(5)}")


async def _collect_all(scene: CrashScene) -> None:
    """Bring the jobs, then collect until every one has come back."""
    wanted = set(scene.ids)
    while not wanted <= {row.execution_id for row in scene.validator.delivered}:
        await scene.validator.visit()
        await asyncio.sleep(0 if scene.platform.jobs._queue else _PAUSE_SECONDS)
