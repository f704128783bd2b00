"""The suite "hostile network": attacks on the axon of a running daemon, each judged by the same rules.

Every answer is one of those the case allows; what is refused is refused in a short JSON message that shows nothing of
the inside; nothing gets into the ledger; the daemon lives, and serves an honest validator all the while.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.hostile.network_attacks import CUT, Answer, Case
from tests.hostile.network_auth import BTAUTH, FRESHNESS, MEMBERSHIP, REPLAYS, SIGNATURES
from tests.hostile.network_body import BODIES
from tests.hostile.network_files import few_files
from tests.hostile.network_http import LARGE, MALFORMED, SLOW
from tests.hostile.network_victim import NO_PERMIT, POOR, STRANGER, Victim, keep_serving, running_victim
from tests.reliability import Record

CASES: Final = [*SLOW, *LARGE, *MALFORMED, *BODIES, *FRESHNESS, *REPLAYS, *SIGNATURES, *MEMBERSHIP, *BTAUTH]

SLOWEST_SECONDS: Final = 5.0
"""The longest an honest request may wait: half of a dendrite's patience."""
GROWTH_MIB: Final = 96.0
"""What the daemon may grow by in the whole suite; 1,000 connections at once take about 30 MiB."""
LONGEST_MESSAGE: Final = 300

_INSIDE: Final = re.compile(
    rb"Traceback|\.py\b|site-packages|pydantic|uvicorn|starlette|sqlite|Internal Server|Error #|/home/|/usr/"
)
_ERRORS: Final = 400


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a case; ``faults`` is empty when all promises held."""

    case: Case
    outcome: str
    faults: list[str]
    served: int
    slowest_seconds: float
    rss_mib: float
    seconds: float


def wrong_answers(case: Case, answers: Sequence[Answer]) -> list[str]:
    """What is wrong with the answers of one case."""
    faults: list[str] = []
    seen = {answer.status for answer in answers}
    if unexpected := seen - set(case.statuses):
        faults.append(f"answered {sorted(unexpected)}")
    if missing := set(case.statuses) - seen:
        faults.append(f"never answered {sorted(missing)}")
    if len(answers) < case.least:
        faults.append(f"{len(answers)} answers instead of {case.least}")
    if case.words and answers and case.words not in answers[-1].message:
        faults.append(f"said {answers[-1].message[:100]!r} and not {case.words!r}")
    for answer in answers:
        if answer.status >= _ERRORS and not 0 < len(answer.message) <= LONGEST_MESSAGE:
            faults.append(f"{answer.status} without a short message")
        if match := _INSIDE.search(answer.body):
            faults.append(f"shows {match[0]!r}")
        if b"for ever" in answer.body and answer.status == CUT:
            faults.append("kept the connection for ever")
    return sorted(set(faults))


async def run_case(victim: Victim, case: Case) -> Judged:
    """Attack once, with an honest validator at work all the while, and judge."""
    strangers = [key.ss58_address for key in (STRANGER, NO_PERMIT, POOR)]
    jobs, began, failures = victim.jobs(), time.monotonic(), list[str]()
    victim.served, victim.slowest_seconds = 0, 0.0
    serving = asyncio.create_task(keep_serving(victim, failures))
    answers = await case.attack(victim)
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    if case.restarts:
        failures.clear()
        victim.slowest_seconds = 0.0
    if not (await victim.serve_honest()).success:
        failures.append("no honest request was served afterwards")
    faults = wrong_answers(case, answers) + sorted(set(failures))
    if (new := victim.jobs() - jobs) != case.new_jobs:
        faults.append(f"{new} new jobs in the ledger instead of {case.new_jobs}")
    if known := victim.nonces_of(*strangers):
        faults.append(f"{known} nonces of strangers in the ledger")
    if victim.slowest_seconds > SLOWEST_SECONDS:
        faults.append(f"an honest request waited {victim.slowest_seconds:.1f} s")
    if not victim.is_alive():
        faults.append("the daemon died")
    return Judged(
        case,
        _outcome(answers),
        faults,
        victim.served,
        victim.slowest_seconds,
        victim.rss_mib() if victim.is_alive() else 0.0,
        time.monotonic() - began,
    )


async def run_cases(cases: Sequence[Case], record: Record | None = None) -> tuple[list[Judged], float]:
    """All of them against one daemon; what became of each, and by how many MiB the daemon grew."""
    judged: list[Judged] = []
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        async with running_victim(Path(folder)) as victim:
            for _ in range(20):
                await victim.serve_honest()
            first = last = victim.rss_mib()
            for case in cases:
                one = await run_case(victim, case)
                judged.append(one)
                if record is not None:
                    _keep(record, one)
                if not victim.is_alive():
                    break
                if not case.restarts:  # a new process has its own size
                    last = max(last, one.rss_mib)
            return judged, last - first


def main() -> bool:
    """The full run: prints a table, keeps every case; whether all promises held."""
    record = Record("hostile network")
    judged, growth = asyncio.run(run_cases(CASES, record))
    record.add(
        "memory over all cases", f"grew by {growth:.0f} MiB", ok=growth <= GROWTH_MIB, growth_mib=round(growth, 1)
    )
    outcome = asyncio.run(few_files())
    record.add("1,000 connections where 1,024 files may be open", outcome or "a job was done", ok=not outcome)
    slowest = max(one.slowest_seconds for one in judged)
    sys.stdout.write(
        f"{len(record.seen)} cases, {len(record.wrong)} wrong; the daemon grew by {growth:.0f} MiB; "
        f"an honest request waited {slowest:.2f} s at most\n"
    )
    return not record.wrong


def _keep(record: Record, one: Judged) -> None:
    record.add(
        one.case.name,
        one.outcome if not one.faults else f"{one.outcome}; {'; '.join(one.faults)}",
        ok=not one.faults,
        served_meanwhile=one.served,
        slowest_seconds=round(one.slowest_seconds, 3),
        rss_mib=round(one.rss_mib, 1),
        seconds=round(one.seconds, 2),
    )
    word = "ok   " if not one.faults else "WRONG"
    sys.stdout.write(
        f"{word} {one.case.name:<58.58} {one.outcome:<28.28} {one.seconds:6.2f} s  served {one.served:4d}, slowest "
        f"{one.slowest_seconds:5.3f} s  {one.rss_mib:6.1f} MiB {'; '.join(one.faults)}\n"
    )
    sys.stdout.flush()


def _outcome(answers: Sequence[Answer]) -> str:
    counts = Counter("closed" if answer.status == CUT else str(answer.status) for answer in answers)
    return ", ".join(status if count == 1 else f"{count}x {status}" for status, count in sorted(counts.items()))
