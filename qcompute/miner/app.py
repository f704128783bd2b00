"""Builds the parts of the daemon, runs them, and stops them in order.

Every side task runs in one TaskGroup: one that ends by itself takes the daemon down with a non-zero code and a log
line that says which and why, and the process manager starts it again. There is one way to start: rows are in their
states, and the stages take them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import uvloop

from qcompute import __version__
from qcompute.errors import ConfigError, DeliveryError, StoreError
from qcompute.miner.duty import SideTaskEnded, must_run
from qcompute.miner.notify import ServiceManager
from qcompute.miner.parts import Parts, build
from qcompute.miner.settings import Settings
from qcompute.miner.surroundings import Surround, Surrounding, nothing
from qcompute.units import ProviderKey

_log = logging.getLogger(__name__)

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 2
EXIT_SECOND_SIGNAL: Final = 130

OFFLINE_SECONDS: Final = 3.0
"""How long the job server may take to hear that we go; it notices by itself soon enough."""

BUDGET_SECONDS: Final = 10.0
"""How old what we know of an account may be that another process works on."""

PRIME_SECONDS: Final = 5.0
"""How long a start waits for the metagraph before it serves without: a validator's first visit need not be in vain."""


GARBAGE_OBJECTS: Final = 10_000
"""New objects between two looks for garbage. Nearly all of ours are freed by counting references; at Python's 700 every
job paid for half a look, and every few hundred for one through all that was ever imported: a tenth of the CPU time."""


def main(settings: Settings, surround: Surround = nothing) -> int:
    """Run the daemon until SIGTERM or SIGINT, with what ``surround`` makes around it; returns the exit code.

    0 after an orderly stop, 1 when a part failed (the log says which), 2 when the settings cannot work.
    """
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(settings, surround))
    except ConfigError as error:
        sys.stderr.write(f"qcompute: {error}\n")
        return EXIT_CONFIG
    except StoreError as error:
        # Before anything is served: locked by a backup, on a disk that is full. It may do at the next start.
        _log.critical("the daemon cannot start: %s", error, extra={"action": "fatal"})
        return EXIT_FAILED


async def _run(settings: Settings, surround: Surround) -> int:
    manager = ServiceManager.of_this_process()
    parts = await build(settings)
    gc.collect()
    gc.freeze()  # modules and parts stay until the end: no later look needs to walk through them
    gc.set_threshold(GARBAGE_OBJECTS)
    try:
        return await Daemon(settings, parts, manager, surround(settings, parts)).run()
    finally:
        await parts.close()


class Daemon:
    """One running miner."""

    def __init__(
        self, settings: Settings, parts: Parts, manager: ServiceManager, surroundings: Sequence[Surrounding] = ()
    ) -> None:
        self._settings = settings
        self._parts = parts
        self._manager = manager
        self._surroundings = surroundings
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Serve until a signal; see `main`."""
        self._handle_signals()
        await self._parts.watch.prime(PRIME_SECONDS)
        # Outside the group: an address that cannot be bound is a wrong setting, not a part that died.
        await self._parts.axon.start()
        await self._parts.commands.start()
        for one in self._surroundings:
            await one.start()
        # Last: what begins to run is interrupted by a start that fails, and an own machine's job is then held.
        await asyncio.to_thread(self._parts.fleet.begin)
        try:
            await self._serve()
        except BaseExceptionGroup as failures:
            for failure in _leaves(failures):
                if isinstance(failure, ConfigError):
                    raise failure from None
                # The one line of a death: which part, why, and where in the code.
                why = failure.__cause__ if isinstance(failure, SideTaskEnded) else failure
                _log.critical("the daemon stops: %s", failure, exc_info=why, extra={"action": "fatal"})
            return EXIT_FAILED
        return EXIT_OK

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(must_run(name, part, self._stop), name=name) for name, part in self._side_tasks()
            ]
            self._say_ready()
            await self._stop.wait()
            self._manager.stopping()
            await self._wind_down()
            for task in tasks:
                task.cancel()

    def _side_tasks(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        parts = self._parts
        return [
            (f"work on {parts.duties[0].lane}", parts.duties[0].run),
            ("connections", parts.switch.run),
            ("axon", parts.axon.run),
            ("shared rates", parts.rates.run),
            ("operator commands", parts.commands.run),
            ("telemetry", parts.telemetry.run),
            ("metagraph", parts.watch.run),
            ("budgets", self._refresh_budgets),
            ("account health", parts.fleet.watch),
            *((one.name, one.run) for one in self._surroundings),
            ("service manager", self._manager.keep_alive),
        ]

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            _log.warning("a second signal: leaving at once; nothing stored is lost", extra={"action": "stop"})
            os._exit(EXIT_SECOND_SIGNAL)
        _log.info("%s: stopping", signal.Signals(number).name, extra={"action": "stop"})
        self._stop.set()

    def _say_ready(self) -> None:
        parts = self._parts
        facts: dict[str, Any] = {
            "pid": os.getpid(),
            "axon_port": parts.axon.port,
            "hotkey": parts.signer.hotkey,
            "version": __version__,
        }
        for one in self._surroundings:
            facts |= one.facts
        _log.info(
            "serving: axon on port %s, operator on port %s, provider %s, hotkey %s",
            parts.axon.port,
            facts.get("operator_port", "none"),
            self._settings.provider,
            parts.signer.hotkey,
            extra={"action": "ready"},
        )
        self._manager.ready(
            f"serving: axon on port {parts.axon.port}, operator on port {facts.get('operator_port', 'none')}"
        )
        if self._settings.neuron.ready_file is not None:
            _write_atomically(self._settings.neuron.ready_file, json.dumps(facts))

    async def _wind_down(self) -> None:
        """Stop intake, let stages leave their rows, say Offline; all of it within ``miner.shutdown_seconds``."""
        loop = asyncio.get_running_loop()
        limit = self._settings.miner.shutdown_seconds
        # What the last two steps need is kept for them, however long stages would take.
        kept = min(OFFLINE_SECONDS, limit / 4)
        stages_end = loop.time() + limit - 2 * kept
        parts = self._parts
        parts.intake.close("this miner is shutting down; try another miner")
        await parts.commands.stop()
        parts.switch.stop()
        await _within(limit / 4, "axon", parts.axon.stop())
        reports = parts.duties[0].is_ours
        await _within(stages_end - loop.time(), "stages", *(duty.stop() for duty in parts.duties))
        if reports:
            # Before the next process has the road, whose word is then the last one.
            await _within(kept, "offline report", _say_offline(parts))
        await _within(kept, "claims", *(duty.let_go() for duty in parts.duties))
        last = (one.stop() for one in self._surroundings)
        await _within(kept, "telemetry or what surrounds the daemon", parts.telemetry.stop(), *last)
        _log.info("stopped", extra={"action": "stop"})

    async def _refresh_budgets(self) -> None:
        """Look from time to time at what the accounts spend that another process works on: it closes our intake too."""
        parts = self._parts

        def ours() -> set[ProviderKey]:
            return {ProviderKey(duty.lane) for duty in parts.duties if duty.is_ours}

        while True:
            await asyncio.sleep(BUDGET_SECONDS)
            try:
                await parts.fleet.budgets.load(parts.ledger, ours=ours)
            except StoreError as error:
                _log.warning("the budgets could not be read: %s", error, extra={"action": "budget"})


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The single errors of a group of groups."""
    found: list[BaseException] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += _leaves(cast("BaseExceptionGroup[BaseException]", error))
        else:
            found.append(error)
    return found


async def _say_offline(parts: Parts) -> None:
    try:
        await parts.heartbeat.say_offline()
    except DeliveryError as error:
        _log.warning("the job server did not hear that we go offline: %s", error, extra={"action": "heartbeat"})


async def _within(limit_seconds: float, what: str, *steps: Awaitable[None]) -> None:
    """Await all of ``steps``, but no longer than the limit: what is unfinished stands in the rows."""
    tasks = [asyncio.ensure_future(step) for step in steps]
    done, pending = await asyncio.wait(tasks, timeout=limit_seconds)
    for task in pending:
        task.cancel()
    if pending:
        _log.warning("%s did not finish within %.0f s", what, limit_seconds, extra={"action": "stop"})
    for task in done:
        if (error := task.exception()) is not None:
            _log.warning("%s: %s", what, error, extra={"action": "stop"})


def _write_atomically(path: Path, text: str) -> None:
    partial = path.with_suffix(path.suffix + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text)
        partial.replace(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"the ready file {path} (setting neuron.ready_file) cannot be written: {reason}") from error
