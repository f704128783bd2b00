"""What breaks around the daemon, as data: how it is brought about, how it is ended, and what must be said of it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from qcompute.local.miner_process import MinerProcess
from qcompute.miner.job import State
from tests.crash.surroundings_disk import launched, locked_by_another, refusing_disk, small_disk
from tests.scene import Scene, until_true

Act = Callable[[Scene], Awaitable[None]]

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
LONGER_THAN_PATIENCE: Final = 75.0
"""Stages bear a database that fails for a minute."""


async def nothing(_: Scene) -> None:
    """What is done where nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Stage:
    """How the miner is started, and what begins and ends the trouble."""

    begin: Act
    end: Act = nothing
    miner_process: type[MinerProcess] = MinerProcess
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


Surroundings = Callable[[Path], AbstractContextManager[Stage]]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that breaks while jobs are under way. ``words`` must be in the log; ``sampled`` ones are cheap."""

    name: str
    stage: Surroundings
    words: str
    seconds: float = 3.0
    sampled: bool = False
    must_end: bool = False


@dataclass(frozen=True, slots=True)
class StartTrouble:
    """Something that is broken at the start: the daemon ends with ``code`` and says ``words``, without a traceback."""

    name: str
    stage: Surroundings
    words: str
    code: int = 2
    sampled: bool = False


@contextmanager
def full_disk(folder: Path) -> Generator[Stage]:
    """The disk of the ledger, and of nothing else, fills up; then somebody makes space."""
    with small_disk(folder / "data") as disk:

        async def begin(_: Scene) -> None:
            await asyncio.to_thread(disk.fill)

        async def end(_: Scene) -> None:
            disk.free()

        yield Stage(begin, end, disk.miner_process())


@contextmanager
def refused_writes(error: int, folder: Path) -> Generator[Stage]:
    """The kernel answers every change of a file of ours with an error."""
    with refusing_disk(folder / "data") as disk:

        async def begin(_: Scene) -> None:
            disk.error = error

        async def end(_: Scene) -> None:
            disk.error = None
            assert disk.refused, "nothing was refused"

        yield Stage(begin, end, launched({"disk": disk.socket_path}))


@contextmanager
def locked(_: Path) -> Generator[Stage]:
    """A shell with an open transaction."""
    with ExitStack() as held:

        async def begin(scene: Scene) -> None:
            await asyncio.to_thread(held.enter_context, locked_by_another(scene.miner.ledger_path))

        async def end(_: Scene) -> None:
            held.close()

        yield Stage(begin, end)


@contextmanager
def wrong_clock(seconds: float, *, until_all_ended: bool, folder: Path) -> Generator[Stage]:
    """The clock steps, and back again: soon, or when all jobs that were accepted have come to their end."""
    file = folder / "clock"
    file.write_text("0")

    async def step(to: float) -> None:
        await asyncio.to_thread(file.write_text, str(to))
        done = file.with_name("clock.done")
        await until_true(lambda: done.exists() and done.read_text() == str(to), what="the clock has stepped")

    async def begin(_: Scene) -> None:
        await step(seconds)

    async def end(scene: Scene) -> None:
        if until_all_ended:
            await scene.until_in(State.CLOSED, sum((await scene.jobs_in()).values()))
        await step(0.001)

    yield Stage(begin, end, launched({"clock": str(file)}))


@contextmanager
def deleted_ledger(_: Path) -> Generator[Stage]:
    """Somebody removes the ledger's file, and brings it back from where it was moved to once the daemon has ended."""

    def moved(scene: Scene, suffix: str, *, back: bool) -> None:
        for part in ("", "-wal", "-shm"):
            here = scene.miner.ledger_path.with_name(scene.miner.ledger_path.name + part)
            there = here.with_name(here.name + suffix)
            source, target = (there, here) if back else (here, there)
            if source.exists():
                source.replace(target)

    async def begin(scene: Scene) -> None:
        moved(scene, ".moved", back=False)

    async def end(scene: Scene) -> None:
        moved(scene, ".moved", back=True)

    yield Stage(begin, end)


@contextmanager
def _changed(begin: Callable[[Scene], None], end: Callable[[Scene], None], _: Path) -> Generator[Stage]:
    async def begin_(scene: Scene) -> None:
        begin(scene)

    async def end_(scene: Scene) -> None:
        end(scene)

    yield Stage(begin_, end_, launched({"unprivileged": True}))


def _mode(path: Callable[[Scene], Path], broken: int, whole: int) -> Surroundings:
    return partial(_changed, lambda scene: path(scene).chmod(broken), lambda scene: path(scene).chmod(whole))


def _ledger(scene: Scene) -> Path:
    return scene.miner.ledger_path


def _key(scene: Scene) -> Path:
    return _ledger(scene).with_name(_ledger(scene).name + ".key")


def _partial(scene: Scene) -> Path:
    """What the ready file is written to before it gets its name."""
    return scene.miner.folder / "ready.json.partial"


def _away(path: Path) -> Path:
    return path.with_name(path.name + ".away")


def _hide_key(scene: Scene) -> None:
    _key(scene).rename(_away(_key(scene)))


def _show_key(scene: Scene) -> None:
    _away(_key(scene)).replace(_key(scene))


@contextmanager
def read_only_disk_at_start(folder: Path) -> Generator[Stage]:
    """The file system is mounted read-only when the daemon starts."""
    with small_disk(folder / "data") as disk:

        async def begin(_: Scene) -> None:
            disk.set_read_only(read_only=True)

        async def end(_: Scene) -> None:
            disk.set_read_only(read_only=False)

        yield Stage(begin, end, disk.miner_process())


def _clock(seconds: float, *, until_all_ended: bool) -> Surroundings:
    return lambda folder: wrong_clock(seconds, until_all_ended=until_all_ended, folder=folder)


DURING: Final = (
    Trouble("disk full for 3 s", full_disk, "the disk is full", sampled=True),
    Trouble("disk full for 75 s", full_disk, "the disk is full", LONGER_THAN_PATIENCE),
    Trouble("write refused: no space", partial(refused_writes, errno.ENOSPC), "the disk is full"),
    Trouble("write refused: read-only file system", partial(refused_writes, errno.EROFS), "cannot be used"),
    Trouble("write refused: I/O error", partial(refused_writes, errno.EIO), "cannot be used"),
    Trouble(
        "read-only file system for 75 s", partial(refused_writes, errno.EROFS), "cannot be used", LONGER_THAN_PATIENCE
    ),
    Trouble("locked by another program for 8 s", locked, "another program keeps it locked", 8.0),
    Trouble("locked by another program for 75 s", locked, "another program keeps it locked", LONGER_THAN_PATIENCE),
    Trouble("clock an hour back for 3 s", _clock(-HOUR, until_all_ended=False), "set back by 3600 s"),
    Trouble("clock an hour back until all jobs have ended", _clock(-HOUR, until_all_ended=True), "set back by 3600 s"),
    Trouble("clock a day ahead for 3 s", _clock(DAY, until_all_ended=False), "set ahead by 86400 s", sampled=True),
    Trouble("clock a day ahead until all jobs have ended", _clock(DAY, until_all_ended=True), "set ahead by 86400 s"),
    Trouble("file made read-only", _mode(_ledger, 0o400, 0o600), ""),
    Trouble("ledger file removed", deleted_ledger, "was removed or replaced", 90.0, must_end=True),
)

STARTS: Final = (
    StartTrouble("start: key file missing", partial(_changed, _hide_key, _show_key), "key file", sampled=True),
    StartTrouble("start: read-only file system", read_only_disk_at_start, "Read-only file system"),
    StartTrouble("start: ledger file read-only", _mode(_ledger, 0o400, 0o600), "is read-only"),
    StartTrouble(
        "start: ready file cannot be written",
        partial(_changed, lambda scene: _partial(scene).mkdir(), lambda scene: _partial(scene).rmdir()),
        "neuron.ready_file",
    ),
    StartTrouble(
        "start: folder cannot be used", _mode(lambda scene: _ledger(scene).parent, 0o000, 0o700), "ledger.path"
    ),
    StartTrouble("start: locked by another program", locked, "another program keeps it locked", 1),
)
