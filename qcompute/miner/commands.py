"""What an operator does with a job, and the socket through which a running daemon is told and asked (ADR 0014).

The socket lies beside the ledger and is for its owner alone; the kernel says who is at the other end. One line of JSON
goes in, one comes out. With no daemon running the same code works on the ledger itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, assert_never
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from qcompute.errors import ConfigError, QComputeError, StaleRow
from qcompute.faults import first_fault
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.own_requests import MAX_PARTS, PartOf
from qcompute.miner.providers.base import JobHandle
from qcompute.miner.result import complete_handle
from qcompute.miner.road import Road
from qcompute.miner.switch import Switch
from qcompute.units import ExecutionId, ProviderJobId, ProviderKey

_log = logging.getLogger(__name__)

MAX_LINE: Final = 16 * 1024 * 1024
"""A command is a few hundred bytes, and a circuit as large as ``circuits.max_source_bytes`` allows."""

MAX_ANSWER: Final = 16 * 1024 * 1024
"""What a daemon says of hundreds of devices fits in this."""

ANSWER_SECONDS: Final = 10.0
"""How long one side waits for the other's word."""

THINK_SECONDS: Final = 60.0
"""How long an answer may take that a circuit must be parsed and translated for."""

_PATH_BYTES: Final = 100
"""A socket's path may have 107 bytes; longer ones are reached through a descriptor of their folder."""


class CommandRefused(QComputeError):
    """The job is not in a state in which this may be done; the message says what can be."""

    code = "command_refused"


class _Words(BaseModel):
    """What one line of JSON says."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Command(_Words):
    execution_id: str = Field(max_length=128)
    reason: str = Field(default="", max_length=1000)


class Release(_Command):
    """Go on where it was held. ``never_submitted``: the operator has seen that the vendor has no such job."""

    command: Literal["release"] = "release"
    never_submitted: bool = False


class Fail(_Command):
    """End it as failed; its user is told ``reason``."""

    command: Literal["fail"] = "fail"
    reason: str = Field(min_length=1, max_length=1000)


class Adopt(_Command):
    """Take the vendor's job of this id for it, and wait for that."""

    command: Literal["adopt"] = "adopt"
    provider_job_id: str = Field(min_length=1, max_length=512)


class Cancel(_Command):
    """Call it off: at once while it is not submitted, by way of its vendor afterwards."""

    command: Literal["cancel"] = "cancel"


class RetryDelivery(_Command):
    """Try the delivery of its result now instead of after the pause."""

    command: Literal["retry_delivery"] = "retry_delivery"


class Ask(_Words):
    """A question about the daemon; see `Answers`."""

    command: Literal["ask"] = "ask"
    about: str = Field(max_length=64)


class _Circuit(_Words):
    circuit: str = Field(repr=False)
    shots: int
    options: dict[str, Any] = Field(default_factory=dict[str, Any])


class Estimate(_Circuit):
    """What a circuit of the operator's own would cost, and where it would run."""

    command: Literal["estimate"] = "estimate"


class Run(_Circuit):
    """Run it, on the road of all jobs. As a ``part`` of a request it is made once, however often this is said."""

    command: Literal["run"] = "run"
    part: PartOf | None = None


class Parts(_Words):
    """Which jobs of a request are here, of the parts with these numbers, and how they are; without their counts."""

    command: Literal["parts"] = "parts"
    request: UUID
    numbers: list[int] = Field(max_length=MAX_PARTS)


class Look(_Words):
    """How a job is now, with its counts once it has some."""

    command: Literal["look"] = "look"
    execution_id: str = Field(max_length=128)


class Use(_Words):
    """Let new jobs go to this connection. ``unchecked``: also to one that cannot be reached now."""

    command: Literal["use"] = "use"
    name: str = Field(max_length=128)
    unchecked: bool = False


class Reopen(_Words):
    """Take up the credentials of a connection anew."""

    command: Literal["reopen"] = "reopen"
    name: str = Field(max_length=128)


class Accounts(_Words):
    """Say which accounts are open, and which new jobs go to."""

    command: Literal["accounts"] = "accounts"


AboutJob: TypeAlias = Release | Fail | Adopt | Cancel | RetryDelivery
AboutOwn: TypeAlias = Estimate | Run | Look | Parts
AboutAccounts: TypeAlias = Use | Reopen | Accounts
Said: TypeAlias = AboutJob | AboutOwn | AboutAccounts | Ask
_SAID: Final[TypeAdapter[Said]] = TypeAdapter(Annotated[Said, Field(discriminator="command")])

Answers: TypeAlias = Mapping[str, Callable[[], Awaitable[Any]]]
"""What a daemon can be asked about, and what answers it: JSON without anything secret."""

RunsOwn: TypeAlias = Callable[[AboutOwn], Awaitable[dict[str, Any]]]
"""What answers about the operator's own jobs: `qcompute.miner.own_jobs.OwnJobs`."""

CANCELLED_HERE: Final = "cancelled by this miner's operator"
"""What the user of a job is told that was called off before it was submitted, when no reason was given."""

_NOT_BEGUN: Final = frozenset({State.ACCEPTED, State.READY})
_ENDED: Final = frozenset({State.SETTLED, State.CLOSED})


class OperatorCommands:
    """Does what an operator says. ``provider`` is what a job without a provider of its own is taken to be at."""

    def __init__(self, road: Road, provider: ProviderKey) -> None:
        self._road = road
        self._provider = provider

    async def run(self, command: AboutJob, *, uid: int) -> Job:
        """The row as it is afterwards; ``uid`` is who said so.

        Raises:
            CommandRefused: this cannot be done with this job now.
            StoreError: the database failed.
        """
        job = await self._job(command.execution_id)
        try:
            after = await self._done(job, command, uid)
        except StaleRow as error:
            raise CommandRefused("the job moved on meanwhile; look at it again") from error
        _log.warning(
            "operator (uid %d): %s %s: %s -> %s (%s)",
            uid,
            command.command,
            job.execution_id,
            job.state,
            after.state,
            command.reason or "no reason given",
            extra={"action": "operator", "execution_id": job.execution_id},
        )
        return after

    async def _job(self, execution_id: str) -> Job:
        job = await self._road.ledger.get(ExecutionId(execution_id))
        if job is None:
            raise CommandRefused(f"there is no job {execution_id} here")
        return job

    async def _done(self, job: Job, command: AboutJob, uid: int) -> Job:
        match command:
            case Cancel():
                return await self._cancel(job, command, uid)
            case RetryDelivery():
                return await self._retry_delivery(job)
            case Release():
                return await self._release(_held(job), command, uid)
            case Fail():
                return await self._road.end_without_result(
                    _held(job), Verdict.FAILED, code="operator", message=command.reason
                )
            case Adopt():
                return await self._adopt(_held(job), command, uid)
            case _:
                assert_never(command)

    async def _cancel(self, job: Job, command: Cancel, uid: int) -> Job:
        """Whoever has the row in hand finds it changed and drops it, unless it is in the middle of a paid call."""
        if job.parent_id is not None:
            raise CommandRefused(f"job {job.execution_id} is a part: cancel the whole, {job.parent_id}")
        if job.state in _ENDED:
            raise CommandRefused(f"job {job.execution_id} has ended: it is {job.state}, {job.verdict}")
        if job.state is State.HELD:
            raise CommandRefused(f"job {job.execution_id} is held: cancel it at its vendor and fail it here")
        if job.state in _NOT_BEGUN or (job.state is State.SUBMITTING and job.submit_started_at is None):
            message = command.reason or CANCELLED_HERE
            return await self._road.end_without_result(
                job, Verdict.CANCELLED, code="operator", message=message, unsubmitted=True
            )
        if job.state is State.SUBMITTING:
            raise CommandRefused(f"job {job.execution_id} is being submitted just now; try again in a moment")
        if job.cancel_requested_at is not None:
            return job
        now = self._road.clock()
        asked = replace(
            job, cancel_requested_at=now, due_at=now, error_code="cancelling", error=_by(uid, command.reason)
        )
        return await self._road.store(job, asked)

    async def _retry_delivery(self, job: Job) -> Job:
        if job.state is not State.SETTLED:
            raise CommandRefused(f"job {job.execution_id} is {job.state}: there is nothing to deliver")
        now = self._road.clock()
        return job if job.due_at <= now else await self._road.store(job, replace(job, due_at=now))

    async def _release(self, job: Job, command: Release, uid: int) -> Job:
        now = self._road.clock()
        released = replace(job, due_at=now, error_code="released", error=_by(uid, command.reason))
        if job.handle is not None:
            if command.never_submitted:
                raise CommandRefused(f"job {job.execution_id} was submitted: it is {job.provider_job_id} at its vendor")
            return await self._road.save(job, replace(released, state=State.WAITING))
        if await self._road.ledger.circuit(job.execution_id) is None:
            raise CommandRefused(f"job {job.execution_id} has no circuit here, so it can only be adopted or failed")
        if command.never_submitted:
            released = replace(released, submit_started_at=None)
        return await self._road.save(job, replace(released, state=State.SUBMITTING))

    async def _adopt(self, job: Job, command: Adopt, uid: int) -> Job:
        if job.provider_job_id not in (None, command.provider_job_id):
            raise CommandRefused(
                f"job {job.execution_id} is {job.provider_job_id} at its vendor already; release it to go on with that"
            )
        await self._require_nobodys(job, command.provider_job_id)
        now = self._road.clock()
        handle = complete_handle(
            JobHandle(provider_job_id=command.provider_job_id, device_id=job.device_id or ""), job.prepared
        )
        adopted = replace(
            job,
            state=State.WAITING,
            due_at=now,
            provider=job.provider or self._provider,
            provider_job_id=ProviderJobId(command.provider_job_id),
            handle=handle.model_dump(mode="json"),
            submit_started_at=job.submit_started_at or job.received_at,
            submitted_at=job.submitted_at or now,
            error_code="adopted",
            error=_by(uid, command.reason),
        )
        return await self._road.save(job, adopted)

    async def _require_nobodys(self, job: Job, provider_job_id: str) -> None:
        """Two jobs of one vendor's job would each be given the other's counts, unless they were submitted together."""
        account, place = job.provider or self._provider, _place_in_pack(job)
        for other in await self._road.ledger.at_vendor(ProviderJobId(provider_job_id)):
            if other.execution_id == job.execution_id or other.provider != account:
                continue
            if place is None or _place_in_pack(other) in (None, place):
                raise CommandRefused(
                    f"{provider_job_id} is the vendor's job of {other.execution_id}, which is {other.state}: "
                    "adopt the one that was made for this job"
                )


def _held(job: Job) -> Job:
    if job.state is not State.HELD:
        raise CommandRefused(f"job {job.execution_id} is {job.state}, not held: it goes its way by itself")
    return job


def _place_in_pack(job: Job) -> int | None:
    return (job.prepared or {}).get("pack_index")


def _by(uid: int, reason: str) -> str:
    return f"by the operator (uid {uid}): {reason or 'no reason given'}"


class CommandSocket:
    """The daemon's end. Start before, and stop after, the stages work. ``switch``: who has the accounts."""

    def __init__(
        self,
        path: Path,
        commands: OperatorCommands,
        answers: Answers | None = None,
        own: RunsOwn | None = None,
        *,
        switch: Switch | None = None,
    ) -> None:
        self._path = path
        self._own = own
        self.commands = commands
        self._answers = answers or {}
        self._switch = switch
        self._server: asyncio.Server | None = None
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Listen, in place of a socket that an earlier daemon left behind.

        Raises:
            ConfigError: the socket cannot be made.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            draft.unlink(missing_ok=True)
            with _reachable(draft) as address:
                listener.bind(address)
            # Nobody is heard before it listens, and by then it is ours alone.
            draft.chmod(0o600)
            draft.rename(self._path)
            listener.setblocking(False)
            self._server = await asyncio.start_unix_server(self._talk, sock=listener, limit=MAX_LINE)
        except OSError as error:
            listener.close()
            draft.unlink(missing_ok=True)
            raise ConfigError(
                f"the operator's socket {self._path} cannot be made ({error.strerror}); see ledger.path"
            ) from error

    async def run(self) -> None:
        """Wait until `stop`; the event loop itself serves."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Hear no more. A no-op when not started or stopped before."""
        self._stopped.set()
        if self._server is not None:
            self._server.close()
            self._server = None
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                uid = _uid_of(writer.get_extra_info("socket"))
                line = await reader.readline()
            # Not cut short: one that is half done would be neither done nor refused. What it does has limits.
            answer = await self._answer(line, uid)
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            _log.debug("a conversation with an operator broke off", extra={"action": "operator"})
        finally:
            writer.close()

    async def _answer(self, line: bytes, uid: int) -> dict[str, Any]:
        if uid not in (0, os.getuid()):
            return {"ok": False, "message": f"uid {uid} may not command this daemon"}
        try:
            said = _SAID.validate_json(line)
        except ValidationError as error:
            return {"ok": False, "message": f"not a command: {first_fault(error)}"}
        try:
            return await self._answer_to(said, uid)
        except QComputeError as error:
            return {"ok": False, "message": error.message}

    async def _answer_to(self, said: Said, uid: int) -> dict[str, Any]:
        if isinstance(said, Ask):
            asked = self._answers.get(said.about)
            if asked is None:
                raise CommandRefused(f"this daemon knows nothing about {said.about!r}")
            return {"ok": True, "answer": await asked()}
        if isinstance(said, (Estimate, Run, Look, Parts)):
            if self._own is None:
                raise CommandRefused("this daemon runs no jobs of its operator's")
            return {"ok": True, "answer": await self._own(said)}
        if isinstance(said, (Use, Reopen, Accounts)):
            return {"ok": True, **await self._switched(said, uid)}
        job = await self.commands.run(said, uid=uid)
        return {"ok": True, "state": job.state, "verdict": job.verdict, "execution_id": job.execution_id}

    async def _switched(self, command: AboutAccounts, uid: int) -> dict[str, Any]:
        if self._switch is None:
            raise CommandRefused("this daemon does not switch accounts")
        if not isinstance(command, Accounts):
            _log.warning("operator (uid %d): %s %s", uid, command.command, command.name, extra={"action": "operator"})
        match command:
            case Use():
                return {"accounts": await self._switch.use(command.name, unchecked=command.unchecked)}
            case Reopen():
                return {"reopened": await self._switch.reopen(command.name)}
            case Accounts():
                return await self._switch.status()


def socket_file(ledger: Path) -> Path:
    """Where the daemon of a ledger is spoken to."""
    return ledger.with_name(f"{ledger.name}.sock")


def tell_daemon(path: Path, command: BaseModel, *, within_seconds: float = ANSWER_SECONDS) -> dict[str, Any] | None:
    """What the daemon behind the socket answers; None when no daemon listens there.

    Raises:
        ConfigError: it listens but does not answer, or this user may not speak to it.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(within_seconds)
        try:
            with _reachable(path) as address:
                connection.connect(address)
            connection.sendall(command.model_dump_json().encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline(MAX_ANSWER))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError as error:
            raise ConfigError(f"this user may not speak to the daemon through {path}; be the daemon's user") from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"the daemon behind {path} does not answer ({type(error).__name__})") from error
    return answer


@contextmanager
def _reachable(path: Path) -> Generator[str]:
    """The path as an address, by way of its folder's descriptor where it is longer than an address may be."""
    if len(os.fsencode(path)) <= _PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _uid_of(connection: socket.socket) -> int:
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(uid)
