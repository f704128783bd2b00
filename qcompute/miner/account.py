"""One provider account: its adapter, and the fixed threads its blocking calls run in.

The threads live as long as the account (some SDKs crash when the thread that first imported them ends) and are
daemons: a vendor call that never returns must not keep the process from ending. What such a call leaves behind is
found again after the restart, as after any other crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from qcompute.circuits.program import CompiledCircuit
from qcompute.errors import CannotRun, QComputeError, Unavailable, VendorError
from qcompute.meters import VendorMeter
from qcompute.miner.ends import EndNews
from qcompute.miner.pace import Pace
from qcompute.miner.polls import PollQueue
from qcompute.miner.providers.base import (
    AvailabilityStatus,
    BaseExecutionStatus,
    Capability,
    Device,
    JobHandle,
    ProviderAdapter,
    Verb,
    submit_takes,
    tells_ends,
)
from qcompute.units import ProviderKey

_log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

SLOW_CALL_SECONDS: Final = 60.0
"""A vendor call longer than this is named in the log, once, while it still runs."""

LONGEST_PAUSE_SECONDS: Final = 300.0
"""A vendor that asks for a longer pause is asked again after this: a result must not wait a day for one header."""

LOOK_SECONDS: Final = 30.0
"""An account that gives no answer for so long is offline: some never do, and others must be looked at."""

AVAILABILITY_SECONDS: Final = 15.0
"""Routing a burst of jobs must not ask the vendor once for each."""

FIRST_POLL_SECONDS: Final = 0.5
"""The longest a job waits for its first poll, where nobody tells of its end."""

TOLD_POLL_SECONDS: Final = 2.0
"""Where the adapter tells of ends, a poll is for what it told while nobody heard."""

_LEAST_CLOSE_SECONDS: Final = 1.0
"""For closing an adapter that has used up its time with calls that do not come back."""

_Call = tuple[Callable[[], Any], asyncio.Future[Any], asyncio.AbstractEventLoop]


class ProviderThreads:
    """A fixed number of daemon threads that run calls in the order they were asked for."""

    def __init__(self, name: str, size: int) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"provider-{name}-{number}", daemon=True) for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Run ``call`` in one of the threads; the future belongs to the running event loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._calls.put((call, future, loop))
        return future

    def close(self) -> None:
        """Let idle threads end; busy ones end with their call, or with the process."""
        for _ in self._threads:
            self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            call, future, loop = item
            result: Any = None
            error: BaseException | None = None
            try:
                result = call()
            except BaseException as raised:  # noqa: BLE001 - it is handed to whoever awaits the call
                error = raised
            try:
                loop.call_soon_threadsafe(_finish, future, result, error)
            except RuntimeError:
                return  # the loop is closed: the daemon is gone and nobody waits any more


def _finish(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    elif isinstance(error, Exception) and not isinstance(error, StopIteration):
        future.set_exception(error)
    else:
        # StopIteration cannot travel through a future (IBM's sampler raises it bare); pyo3's PanicException,
        # SystemExit and the like must not end the daemon.
        wrapped = RuntimeError(f"the adapter raised {type(error).__name__}")
        wrapped.__cause__ = error
        future.set_exception(wrapped)


class Account:
    """One adapter and its threads. ``key`` is the provider's key."""

    def __init__(
        self,
        key: ProviderKey,
        adapter: ProviderAdapter,
        *,
        threads: int,
        clock: Callable[[], float] = time.monotonic,
        tags: Mapping[str, Collection[str]] | None = None,
        health: Callable[[], None] | None = None,
        vendor: ProviderKey | None = None,
        widths: Mapping[str, int] | None = None,
    ) -> None:
        self.key = key
        self.vendor = vendor or key
        """What runs its jobs: the key of an adapter, or of a node provider."""
        self.adapter = adapter
        self.limits = adapter.limits()
        self.submit_arguments = submit_takes(adapter)
        self.monotonic = clock
        self._tags = None if tags is None else {device: frozenset(words) for device, words in tags.items()}
        self._widths = widths or {}
        self._health = health
        self.offline_because: str | None = None
        """Why the account cannot be used, since the last `look`; None while it can."""
        self.device_names: tuple[str, ...] = ()
        """What `devices` said last; nothing before it was asked once."""
        self._pace = Pace(self.limits.rates, clock)
        self._threads = ProviderThreads(key, threads)
        # Its own, for behind the others' calls it would count as hanging where the vendor is only slow.
        self._look_thread = self._threads if health is None else ProviderThreads(f"{key}-look", 1)
        self._polls = PollQueue(
            size=self.limits.max_poll_batch, turn=partial(self._pace.turn, Verb.POLL), ask=self._poll_batch
        )
        self.polls_in_batches = type(adapter).poll_many is not ProviderAdapter.poll_many
        self.tells_ends = tells_ends(adapter)
        """Whether the adapter says itself when a job has ended; see `hearing_ends`."""
        self.poll_interval_seconds = max(self.limits.poll_interval_seconds, TOLD_POLL_SECONDS * self.tells_ends)
        self._ends = EndNews()
        if self.tells_ends:
            adapter.on_end(self._ends.tell)
        self._looking: asyncio.Task[Exception | None] | None = None
        self._warned_slow = False
        self._calls: set[asyncio.Future[Any]] = set()
        self._meter = VendorMeter(key)
        self._availability: dict[str, tuple[float, AvailabilityStatus | None]] = {}

    @property
    def first_poll_seconds(self) -> float:
        """How long after its submit a job is polled for the first time."""
        if self.adapter.has_ended_at_submit:
            # While its row is still at hand: one that waits is read from the table again.
            return 0.0
        return self.poll_interval_seconds if self.tells_ends else min(self.poll_interval_seconds, FIRST_POLL_SECONDS)

    async def turn(self, verb: Verb) -> None:
        """Wait until the account may be asked this; see `Pace.turn`."""
        await self._pace.turn(verb)

    async def ask(self, verb: Verb, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`call` at the account's pace: for calls to the vendor that may be made again.

        Raises:
            Unavailable: also when the vendor asked for a pause that is not over.
        """
        await self._pace.turn(verb)
        return await self.call(verb, function, *args, **kwargs)

    async def call(self, what: Verb | str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run one blocking adapter call in this account's threads and return or raise what it does.

        It is not cut short: a call that may have been processed cannot be undone by not waiting for it. A vendor that
        asks for a pause gets it from the whole account.
        """
        return await self._call(what, lambda: function(*args, **kwargs), self._threads)

    async def _call(self, what: Verb | str, work: Callable[[], T], threads: ProviderThreads) -> T:
        try:
            return await self._run(what, work, threads)
        except Unavailable as error:
            if isinstance(what, Verb) and error.retry_after_seconds is not None:
                self._pace.pause(what, min(error.retry_after_seconds, LONGEST_PAUSE_SECONDS))
            raise

    async def _run(self, what: str, work: Callable[[], T], threads: ProviderThreads) -> T:
        started = time.monotonic()
        slow = asyncio.get_running_loop().call_later(SLOW_CALL_SECONDS, self._warn_slow, what, started)
        call = threads.submit(partial(self._measured, what, work))
        self._calls.add(call)
        try:
            return await call
        finally:
            self._calls.discard(call)
            slow.cancel()

    def _measured(self, what: str, work: Callable[[], T]) -> T:
        """Called in a thread of the account: waiting for one is not the vendor's time."""
        began, result = time.perf_counter(), "ok"
        try:
            return work()
        except BaseException as error:
            result = error.code if isinstance(error, QComputeError) else "error"
            raise
        finally:
            self._meter.observe(what, result, time.perf_counter() - began)

    def _warn_slow(self, what: str, started: float) -> None:
        if self._warned_slow:
            return
        self._warned_slow = True
        _log.warning(
            "%s: %s has not returned for %.0f s; its thread is lost until it does",
            self.key,
            what,
            time.monotonic() - started,
            extra={"action": "slow_call", "provider": self.key},
        )

    async def look(self) -> None:
        """Check the account's health, and say when that has changed. Without a check it counts as healthy.

        One that is healthy is asked for its devices too, until it has named them once. What does not answer in time is
        waited for at the next look, beside which no second one is begun.
        """
        if self._health is None:
            return
        if self._looking is None:
            self._looking = asyncio.create_task(self._asked(self._health))
        looking = self._looking
        await asyncio.wait({looking}, timeout=LOOK_SECONDS)
        if self._looking is not looking:  # another adapter has taken its place
            return
        if not looking.done():
            self._found(f"it has not answered for {LOOK_SECONDS:.0f} s")
            return
        self._looking = None
        answer = looking.result()
        if answer is not None and not isinstance(answer, QComputeError):
            raise answer
        self._found(None if answer is None else answer.message)

    async def _asked(self, health: Callable[[], None]) -> Exception | None:
        """What the health check raised; None when the account is well, whatever it says of its devices."""
        answer = await caught(self._ask_aside(health))
        if answer is None and not self.device_names:
            await caught(self._ask_aside(self.devices))
        return answer

    async def _ask_aside(self, function: Callable[[], T]) -> T:
        await self._pace.turn(Verb.DESCRIBE)
        return await self._call(Verb.DESCRIBE, function, self._look_thread)

    def _found(self, offline_because: str | None) -> None:
        before, self.offline_because = self.offline_because, offline_because
        if before is None and offline_because is not None:
            extra = {"action": "account_offline", "provider": self.key}
            _log.warning("%s is offline: %s", self.key, offline_because, extra=extra)
        elif before is not None and offline_because is None:
            _log.info("%s is back", self.key, extra={"action": "account_online", "provider": self.key})

    def devices(self) -> list[Device]:
        """The devices jobs may go to, in their order. Blocks; call it in this account's threads."""
        devices = self.adapter.list_devices()
        if self._tags:
            devices = [device for device in devices if device.device_id in self._tags]
        self.device_names = tuple(device.device_id for device in devices)
        return devices

    def check(self, circuit: CompiledCircuit, device: Device, shots: int) -> None:
        """What the adapter's own `check` says, and the operator's limit of the device's width.

        Raises:
            CannotRun: the device cannot run the circuit, or is not to.
        """
        width = self._widths.get(device.device_id)
        if width is not None and circuit.num_qubits > width:
            raise CannotRun(
                f"the circuit has {circuit.num_qubits} qubits, and {self.key} gives {device.device_id} {width} "
                "(max_qubits)",
                reason="too_wide",
            )
        self.adapter.check(circuit, device, shots)

    def capability(self, device_id: str) -> Capability | None:
        """What the adapter says of a device, and not more qubits than the operator lets it have. Blocks."""
        capability, width = self.adapter.get_capability(device_id), self._widths.get(device_id)
        if capability is None or width is None or (capability.num_qubits or width) < width:
            return capability
        return capability.model_copy(update={"num_qubits": width})

    @property
    def named_devices(self) -> Mapping[str, frozenset[str]] | None:
        """The devices as the operator wrote them, with their tags; None where only the vendor knows which there are."""
        return self._tags

    def tags(self, device_id: str) -> frozenset[str]:
        """What the operator calls a device, beside its name."""
        return (self._tags or {}).get(device_id, frozenset())

    async def is_down(self, device_id: str) -> str | None:
        """Why a device is known not to be available now; None while it may be.

        Raises:
            VendorError: the vendor cannot be asked.
        """
        if self.offline_because is not None:
            return self.offline_because
        told = self._kept_availability(device_id) or await self.ask(Verb.DESCRIBE, self.availability, device_id)
        if told is None or told.is_available is not False:
            return None
        return told.status_msg or told.availability or "not available"

    def availability(self, device_id: str) -> AvailabilityStatus | None:
        """Availability of one device, at most `AVAILABILITY_SECONDS` old. Blocks; call it in this account's threads."""
        if (kept := self._kept_availability(device_id)) is not None:
            return kept
        fresh = self.adapter.get_availability(device_id)
        self._availability[device_id] = (time.monotonic(), fresh)
        return fresh

    def _kept_availability(self, device_id: str) -> AvailabilityStatus | None:
        asked_at, told = self._availability.get(device_id, (float("-inf"), None))
        return told if time.monotonic() - asked_at < AVAILABILITY_SECONDS else None

    def hearing_ends(self, hear: Callable[[Sequence[str]], None]) -> contextlib.AbstractContextManager[None]:
        """Call ``hear`` on the running event loop with the vendor's jobs that the adapter says have ended."""
        return self._ends.heard(hear)

    async def poll(self, handle: JobHandle) -> BaseExecutionStatus | Exception:
        """A job's status, or what asking for it raised, as a value; with as few vendor calls as the adapter allows.

        An adapter with a batch call gets up to ``max_poll_batch`` handles at a time, and one failure is every handle's
        of that call; with another, each handle is a call, in all threads at once.
        """
        if self.polls_in_batches:
            return await self._polls.status(handle)
        return await caught(self.ask(Verb.POLL, self.adapter.poll, handle))

    async def poll_all(self, handles: list[JobHandle]) -> list[BaseExecutionStatus | Exception]:
        """`poll` for many at once, where the adapter asks for many in one call."""
        size = max(self.limits.max_poll_batch, 1)
        pieces = [handles[first : first + size] for first in range(0, len(handles), size)]
        answers = await asyncio.gather(*(self._in_turn(piece) for piece in pieces))
        return [answer for piece in answers for answer in piece]

    async def _in_turn(self, batch: list[JobHandle]) -> list[BaseExecutionStatus | Exception]:
        try:
            await self._pace.turn(Verb.POLL)
        except VendorError as error:
            return [error] * len(batch)
        return await self._poll_batch(batch)

    async def _poll_batch(self, batch: list[JobHandle]) -> list[BaseExecutionStatus | Exception]:
        answer = await caught(self.call(Verb.POLL, _poll_many, self.adapter, batch))
        return [answer] * len(batch) if isinstance(answer, Exception) else answer

    async def replace_adapter(
        self, adapter: ProviderAdapter, *, limit_seconds: float, health: Callable[[], None] | None = None
    ) -> None:
        """Go on with another adapter of the same account, one with a new key, from the next call on.

        ``health`` asks the new one; an account that was made without a health check goes on without.
        The old one is closed once the calls that it is in have come back, and after the limit in any case. One that is
        not closed by then is left to its thread.
        """
        until = time.monotonic() + limit_seconds
        if self.tells_ends:
            adapter.on_end(self._ends.tell)
        old, self.adapter = self.adapter, adapter
        self._health, self._looking = health, None
        self._availability.clear()
        if self._calls:
            await asyncio.wait(set(self._calls), timeout=limit_seconds)
        await self._close(old, limit_seconds=max(until - time.monotonic(), _LEAST_CLOSE_SECONDS))

    async def close(self, *, limit_seconds: float) -> None:
        """Close the adapter in a thread of its own, giving up after the limit."""
        await self._close(self.adapter, limit_seconds=limit_seconds)
        self._threads.close()
        self._look_thread.close()

    async def _close(self, adapter: ProviderAdapter, *, limit_seconds: float) -> None:
        closing = asyncio.create_task(self.call("close", adapter.close))
        _, pending = await asyncio.wait({closing}, timeout=limit_seconds)
        if pending:
            closing.cancel()
            _log.warning("%s: the adapter did not close in time", self.key, extra={"action": "close"})
        elif (error := closing.exception()) is not None:
            _log.warning("%s: closing failed: %s", self.key, type(error).__name__, extra={"action": "close"})


def _poll_many(adapter: ProviderAdapter, batch: list[JobHandle]) -> list[BaseExecutionStatus | Exception]:
    """What the adapter answers, in a thread of the account; what is no status is an error of that handle."""
    answers: list[object] = list(adapter.poll_many(batch))
    if len(answers) != len(batch):
        raise ValueError(f"poll_many answered {len(answers)} statuses for {len(batch)} handles")
    return [
        one if isinstance(one, BaseExecutionStatus) else ValueError(f"poll_many answered a {type(one).__name__}")
        for one in answers
    ]


async def caught(call: Coroutine[Any, Any, T]) -> T | Exception:
    """The call's answer, or the exception it raised as a value: where failing is an answer too."""
    try:
        return await call
    except Exception as error:  # noqa: BLE001 - an adapter may raise anything; the runner decides what it means
        return error
