"""Runs the unmodified ``neurons/miner.py`` with crash points around everything it does to the world outside itself.

``python crash_run.py --journal FILE [--kill-at POINT] [--compiled FILE] -- ARGUMENTS OF THE MINER``

Around each commit of the ledger (named by what is written: ``accept``, ``save accepted>ready``, ``save
submitting>submitting mark``), each call of the adapter (``submit``, ``find``, ``poll`` …), each HTTP request that goes
out (``PUT upload`` …) and each answer to a validator. A commit of several writes has a point for each.

With ``--compiled`` what the circuit compiler answered is kept in a file, from one process to the next: a compiler has
no side effects, and starting one takes longer than all else a crash test does.
"""

from __future__ import annotations

import argparse
import json
import re
import runpy
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

# This file may be run from anywhere, like the miner's own.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import aiohttp

from qcompute.axon.contract import Reply, VerifiedRequest
from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.program import CompiledCircuit
from qcompute.ledger.contract import Ledger
from qcompute.ledger.keepers import Writer
from qcompute.ledger.operations import Save
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.worker import Done
from qcompute.miner import opening as accounts
from qcompute.miner import parts
from qcompute.miner.heartbeat import Heartbeat
from qcompute.miner.intake import JobIntake
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.protocol import COLLECT_ONLY
from qcompute.testing.crash_points import CrashPoint, CrashPoints, When

_MINER: Final = Path(__file__).resolve().parents[2] / "neurons" / "miner.py"

VENDOR_CALLS: Final[Mapping[str, str]] = {
    "list_devices": "list",
    "get_capability": "capability",
    "get_availability": "availability",
    "get_pricing": "pricing",
    "estimate": "estimate",
    "submit": "submit",
    "submit_many": "submit",
    "find": "find",
    "poll": "poll",
    "poll_many": "poll",
    "get_job_receipt": "receipt",
    "cancel": "cancel",
    "close": "close",
}
"""An adapter's methods that talk to the vendor, and the names of their points."""

_REQUESTS: Final = (
    (re.compile(r"GET /circuits/"), "GET circuit"),
    (re.compile(r"GET .*/token$"), "GET token"),
    (re.compile(r"POST .*/executions/upload$"), "POST executions/upload"),
    (re.compile(r"PATCH .*/executions/[^/]+$"), "PATCH executions"),
    (re.compile(r"PATCH .*/backends$"), "PATCH backends"),
    (re.compile(r"POST .*/datapoints$"), "POST datapoints"),
    (re.compile(r"PUT "), "PUT upload"),
)


def main(arguments: Sequence[str]) -> None:
    """Lay the points and become the miner."""
    parser = argparse.ArgumentParser(description="Run the miner with crash points.")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--kill-at", type=CrashPoint.parse)
    parser.add_argument("--compiled", type=Path)
    parser.add_argument("miner", nargs="*")
    wish = parser.parse_args(arguments)
    points = CrashPoints(wish.journal, wish.kill_at)
    lay_around_ledger(points)
    lay_around_adapter(points)
    lay_around_requests(points)
    lay_around_validators(points)
    if wish.compiled is not None:
        keep_compiled(wish.compiled)
    sys.argv = [str(_MINER), *wish.miner]
    runpy.run_path(str(_MINER), run_name="__main__")


def operation_name(operation: object) -> str:
    """What a write is called: a save by its move, and whether it sets or takes the mark of a paid call."""
    if not isinstance(operation, Save):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(operation).__name__).lower()
    before, after = operation.before, operation.after
    name = f"save {before.state}>{after.state}"
    if before.state is not after.state or (before.submit_started_at is None) == (after.submit_started_at is None):
        return name
    return f"{name} {'mark' if before.submit_started_at is None else 'unmark'}"


def request_name(method: str, path: str) -> str:
    """What an HTTP request is called; one that nobody foresaw by its method and path."""
    asked = f"{method} {path}"
    return next((name for pattern, name in _REQUESTS if pattern.match(asked)), asked)


def lay_around_ledger(points: CrashPoints) -> None:
    """Around opening the file and around each commit, on the thread that commits."""
    work, open_ledger = Writer.work, parts.open_ledger

    def working(self: Writer, tasks: Sequence[Any]) -> Done:
        with points.around(*(operation_name(task) for task in tasks)):
            return work(self, tasks)

    def opening(settings: LedgerSettings, *, shared: bool) -> Ledger:
        with points.around("open ledger"):
            return open_ledger(settings, shared=shared)

    Writer.work = working
    parts.open_ledger = opening


def lay_around_adapter(points: CrashPoints) -> None:
    """Around each call of the adapter from outside; what it calls of itself meanwhile belongs to that call."""
    open_adapter = accounts.open_adapter
    thread = threading.local()

    def wrapped(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the method takes and gives
            if getattr(thread, "inside", False):
                return method(*args, **kwargs)
            thread.inside = True
            try:
                with points.around(name):
                    return method(*args, **kwargs)
            finally:
                thread.inside = False

        return call

    def opening(key: str, config: Mapping[str, Any] | None = None, *, directory: Path | None = None) -> ProviderAdapter:
        adapter = open_adapter(key, config, directory=directory)
        for method, name in VENDOR_CALLS.items():
            setattr(adapter, method, wrapped(name, getattr(adapter, method)))
        return adapter

    accounts.open_adapter = opening


def lay_around_requests(points: CrashPoints) -> None:
    """Before each request is sent, and after the head of its answer has come, in every session."""
    make = aiohttp.ClientSession.__init__

    async def starts(_: aiohttp.ClientSession, __: SimpleNamespace, request: aiohttp.TraceRequestStartParams) -> None:
        points.passing(request_name(request.method, request.url.path), When.BEFORE)

    async def answered(_: aiohttp.ClientSession, __: SimpleNamespace, request: aiohttp.TraceRequestEndParams) -> None:
        points.passing(request_name(request.method, request.url.path), When.AFTER)

    @wraps(make)
    def made(self: aiohttp.ClientSession, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - those of aiohttp
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(starts)
        trace.on_request_end.append(answered)
        make(self, *args, **kwargs, trace_configs=[trace])

    aiohttp.ClientSession.__init__ = made


def lay_around_validators(points: CrashPoints) -> None:
    """Around each answer to a validator, which is made but not yet sent *after*; and around the farewell."""
    answer, say_offline = JobIntake.__call__, Heartbeat.say_offline

    async def answering(self: JobIntake, request: VerifiedRequest) -> Reply:
        with points.around("answer collect" if request.synapse.execution_id == COLLECT_ONLY else "answer job"):
            return await answer(self, request)

    async def saying_offline(self: Heartbeat) -> None:
        with points.around("say offline"):
            await say_offline(self)

    JobIntake.__call__ = answering
    Heartbeat.say_offline = saying_offline


def keep_compiled(file: Path) -> None:
    """Let the compiler answer what it answered to the same text in an earlier process."""
    compile_ = CircuitCompiler.compile

    def compiling(self: CircuitCompiler, source: str) -> CompiledCircuit:
        known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        if source not in known:
            circuit = compile_(self, source)
            known[source] = circuit.model_dump(mode="json")
            partial = file.with_suffix(f".{threading.get_ident()}")
            partial.write_text(json.dumps(known))
            partial.replace(file)
        return CompiledCircuit.model_validate(known[source])

    CircuitCompiler.compile = compiling


if __name__ == "__main__":
    main(sys.argv[1:])
