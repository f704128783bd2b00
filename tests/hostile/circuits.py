"""Every circuit of the corpus through the screen and the sandbox, measured and judged; a fifth through a daemon too.

The limits are the daemon's own. A refused circuit says why in one line that echoes nothing but what its own parser
complains of; one that runs is also translated for a device, which must end in a text or a refusal as well.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.screen import screen
from qcompute.circuits.settings import CircuitSettings
from qcompute.circuits.target import Dialect, Target
from qcompute.errors import CannotRun
from qcompute.local.demo_jobs import BELL
from tests.hostile.corpus import HONEST, HOSTILE_CASES, RUNS, Case
from tests.hostile.road import the_whole_road
from tests.reliability import Record, Seen

SUITE: Final = "hostile circuits"
LIMITS: Final = CircuitSettings()
SLOWEST_SECONDS: Final = 2 * LIMITS.compile_wall_seconds + 5
"""The longest one circuit may hold the sandbox: two calls, one that compiles and one that translates, and the start of
another child between them."""
SLOWEST_SCREEN_SECONDS: Final = 4.0
"""The most CPU the screen may take in the daemon; a thread of its own does it, and others run meanwhile."""

ON_THE_ROAD: Final = HOSTILE_CASES[::5]
"""What goes through a daemon as well, which takes minutes: every fifth, in the corpus's order, so some of each kind."""

DEVICE: Final = Target(
    dialect=Dialect.OPENQASM_3, can_reset=True, can_measure_mid_circuit=True, can_branch=True, optimization_level=1
)

_TICK_SECONDS: Final = 0.02
_MAX_REFUSAL: Final = 300
_SHOUTS: Final = re.compile(r"Traceback|File \"|root:|site-packages|/home/|[^\x20-\x7e]")
_WORD: Final = re.compile(r"[A-Za-z]{6,}")
_OURS: Final = frozenset(
    _WORD.findall("OPENQASM include qelib stdgates pragma defcalgrammar defcal extern opaque duration stretch")
)
_QUOTES_THE_PROGRAM: Final = frozenset({"parse_error", "unsupported"})
_CRASHES: Final = frozenset({"sandbox_error", "sandbox_crash"})


@dataclass(frozen=True, slots=True)
class Ran:
    """What became of one circuit. ``outcome`` is `RUNS` or the reason of a refusal; CPU and memory are the child's."""

    outcome: str
    message: str
    seconds: float
    screen_seconds: float
    cpu_seconds: float
    peak_mib: float


class Watch:
    """Looks at the sandbox's child again and again: a child that is killed is gone before anyone can ask it."""

    def __init__(self, compiler: CircuitCompiler) -> None:
        self._pool = compiler._pool
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_again)
        self._started: dict[int, float] = {}
        self._cpu: dict[int, float] = {}
        self.peak_mib = 0.0

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all children seen."""
        return sum(self._cpu[pid] - self._started[pid] for pid in self._cpu)

    def __enter__(self) -> Self:
        for pid in self._pids():
            self._started[pid] = _cpu_seconds(pid) or 0.0
            (Path("/proc") / str(pid) / "clear_refs").write_text("5")  # forgets the peak so far
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _pids(self) -> list[int]:
        with self._pool._lock:
            return [child._process.pid for child in [*self._pool._idle, *self._pool._busy]]

    def _look_again(self) -> None:
        while not self._over.wait(_TICK_SECONDS):
            self._look()

    def _look(self) -> None:
        for pid in self._pids():
            if (used := _cpu_seconds(pid)) is not None:
                self._started.setdefault(pid, 0.0)
                self._cpu[pid] = used
                self.peak_mib = max(self.peak_mib, memory_mib(pid, "VmHWM"))


def memory_mib(pid: int, what: str) -> float:
    """``VmRSS`` or ``VmHWM`` of a process, in MiB; 0 when it is gone."""
    try:
        found = re.search(rf"^{what}:\s+(\d+) kB", (Path("/proc") / str(pid) / "status").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def _cpu_seconds(pid: int) -> float | None:
    try:
        fields = (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(case: Case, compiler: CircuitCompiler) -> Ran:
    """One circuit as the daemon takes it: decoded, screened, compiled in the sandbox; translated when it runs."""
    payload = case.payload()
    began = time.perf_counter()
    screened = 0.0
    with Watch(compiler) as watch:
        try:
            text = payload.decode()
            screening = time.thread_time()
            try:
                screen(text, LIMITS)
            finally:
                screened = time.thread_time() - screening
            circuit = compiler.compile(text)
            compiler.translate(circuit, DEVICE, None)
            outcome, message = RUNS, ""
        except UnicodeDecodeError:
            outcome, message = "not_text", "not UTF-8 text"
        except CannotRun as refusal:
            outcome, message = refusal.reason, refusal.message
    seconds = time.perf_counter() - began
    return Ran(outcome, message, seconds, screened, watch.cpu_seconds, watch.peak_mib)


def complaint(case: Case, ran: Ran) -> str | None:
    """What of the promises did not hold, or None."""
    slow = [
        ("the whole", ran.seconds, SLOWEST_SECONDS),
        ("the screen", ran.screen_seconds, SLOWEST_SCREEN_SECONDS),
        ("the child's CPU", ran.cpu_seconds, 2 * (LIMITS.compile_cpu_seconds + 2)),
    ]
    for what, seconds, most in slow:
        if seconds > most:
            return f"{what} took {seconds:.1f} s of {most:g} s"
    if ran.peak_mib > LIMITS.compile_memory_bytes >> 20:
        return f"the child grew to {ran.peak_mib:.0f} MiB"
    if ran.outcome in _CRASHES or (case.expect and ran.outcome not in case.expect):
        return f"{ran.outcome} instead of {', '.join(sorted(case.expect))}: {ran.message}"
    if not case.expect and ran.outcome == RUNS:
        return "it ran"
    return None if ran.outcome == RUNS else unclear(case, ran.outcome, ran.message)


def unclear(case: Case, reason: str, message: str) -> str | None:
    """What is wrong with a refusal's text, or None."""
    if not 0 < len(message) <= _MAX_REFUSAL:
        return f"the refusal has {len(message)} characters"
    if _SHOUTS.search(message):
        return f"the refusal shows what it should not: {message!a}"
    if reason in _QUOTES_THE_PROGRAM:
        return None
    source = case.payload().decode("latin-1")
    echoed = {word for word in _WORD.findall(message) if word not in _OURS and re.search(rf"\b{word}\b", source)}
    return f"the refusal repeats {', '.join(sorted(echoed))}" if echoed - _COMMON else None


_COMMON: Final = frozenset(
    _WORD.findall("characters circuit control comment number operations parameters register program")
)
"""Words of our refusals that a circuit's comments may have by chance."""


def main() -> bool:
    """All circuits through the sandbox, then some through a daemon; whether every promise held."""
    record = Record(SUITE)
    compiler = CircuitCompiler(LIMITS)
    compiler.compile(BELL)
    try:
        for case in (*HOSTILE_CASES, *HONEST):
            _show(_recorded(record, case, run(case, compiler)))
    finally:
        compiler.close()
    sys.stdout.write(f"{len(ON_THE_ROAD)} of {len(HOSTILE_CASES)} hostile circuits now go through a daemon\n")
    sys.stdout.flush()
    for seen in asyncio.run(the_whole_road(record, ON_THE_ROAD, unclear)):
        _show(seen)
    sys.stdout.write(f"{len(record.seen)} cases, {len(record.wrong)} wrong\n")
    return not record.wrong


def _recorded(record: Record, case: Case, ran: Ran) -> Seen:
    wrong = complaint(case, ran)
    return record.add(
        case.name,
        wrong or ran.outcome,
        ok=wrong is None,
        refusal=ran.message,
        seconds=round(ran.seconds, 3),
        screen_seconds=round(ran.screen_seconds, 3),
        cpu_seconds=round(ran.cpu_seconds, 2),
        peak_mib=round(ran.peak_mib),
    )


def _show(seen: Seen) -> None:
    facts = seen.facts
    figures = f"{facts.get('seconds', 0):8.2f} s {facts.get('peak_mib', 0):6} MiB"
    sys.stdout.write(f"{'ok   ' if seen.ok else 'WRONG'} {figures}  {seen.case}: {seen.outcome}\n")
    sys.stdout.flush()
