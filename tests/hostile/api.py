"""The suite "hostile api": every HTTP surface of a running daemon against its own description, by schemathesis.

The operator port describes itself; the axon is described in `api_schemas`. Requests are drawn from the descriptions,
right ones and wrong ones: each answer must be one that is described, in status, type and shape, and none a 5xx. What
nobody signed is never taken.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import requests
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from tests.hostile.api_schemas import axon_document
from tests.hostile.network_attacks import dendrite_headers, post, talk
from tests.hostile.network_victim import JOB, PERMITTED, Victim, running_victim
from tests.reliability import Record
from tests.scene import until

SEED: Final = 20261121
FULL_EXAMPLES: Final = 300
JOBS: Final = 5
_OK: Final = 200

NOT_MEANT: Final = {
    "axon, signed": {"negative_data_rejection"},  # numbers in text and jobs refused in a 200, as the reference does
    "axon, not signed": {"positive_data_acceptance"},  # no header that can be drawn is right
}
"""Checks that do not hold for a surface by intent, and why."""


@dataclass(slots=True)
class Fuzzed:
    """What one run over one description saw."""

    surface: str
    calls: Counter[int] = field(default_factory=Counter[int])
    failures: list[str] = field(default_factory=list[str])

    @property
    def total(self) -> int:
        """Requests that were answered."""
        return sum(self.calls.values())


Sign = Callable[[], dict[str, str]]


def fuzz(
    surface: str,
    document: dict[str, Any],
    base_url: str,
    *,
    examples: int,
    sign: Sign | None = None,
) -> Fuzzed:
    """Draw requests from ``document`` and judge the answers; ``sign`` gives the headers of each. Blocks."""
    schema: Any = schemathesis.openapi.from_dict(document, config=SchemathesisConfig())
    schema.config.update(base_url=base_url, request_timeout=10, continue_on_failure=True)
    schema.config.seed = SEED
    schema.config.generation.update(max_examples=examples, database="none", no_shrink=True)
    schema.config.phases.stateful.enabled = False
    if sign is not None:
        schema.auth(refresh_interval=None)(_signing(sign))
    found = Fuzzed(surface)
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _count(found, event)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            found.failures.append(f"the fuzzer: {event}")
    return found


def _signing(sign: Sign) -> type:
    class Signing:
        """Signs each request anew: a nonce is good for one."""

        def get(self, case: Any, context: Any) -> dict[str, str]:
            del case, context
            return sign()

        def set(self, case: Any, data: dict[str, str], context: Any) -> None:
            del context
            case.headers = {**(case.headers or {}), **data}

    return Signing


def _said(interaction: Any) -> str:
    return str(interaction.response.text)[:200] if interaction.response is not None else "nothing"


def _count(found: Fuzzed, event: events.ScenarioFinished) -> None:
    for case_id, interaction in event.recorder.interactions.items():
        if interaction.response is not None:
            found.calls[interaction.response.status_code] += 1
        else:
            found.failures.append(f"{event.label}: no answer")
        for check in event.recorder.checks.get(case_id, []):
            if check.failure_info is None or check.name in NOT_MEANT.get(found.surface, ()):
                continue
            found.failures.append(
                f"{event.label}: {check.name}: {check.failure_info.failure.title}: {_said(interaction)}"
            )


async def fuzz_all(examples: int) -> list[Fuzzed]:
    """All surfaces of one daemon that has jobs in every end a job without a circuit can come to."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        async with running_victim(Path(folder)) as victim:
            await _bring_jobs(victim)
            found = [
                await asyncio.to_thread(_operator, victim, examples),
                await asyncio.to_thread(_axon, victim, examples, signed=False),
                await asyncio.to_thread(_axon, victim, examples, signed=True),
            ]
            if not victim.is_alive() or not (await victim.serve_honest()).success:
                found[-1].failures.append("no honest request was served afterwards")
            return found


def _operator(victim: Victim, examples: int) -> Fuzzed:
    url = victim.miner.operator_url
    document = requests.get(f"{url}/openapi.json", timeout=10).json()
    for path in ("/jobs/{execution_id}", "/receipts/{execution_id}"):
        parameter = document["paths"][path]["get"]["parameters"][0]
        parameter["examples"] = {f"job {n}": {"value": f"api-{n}"} for n in range(JOBS)}
    found = fuzz("operator port", document, url, examples=examples)
    if found.calls[_OK] < 2 * JOBS:
        found.failures.append(f"only {found.calls[_OK]} requests found something")
    return found


def _axon(victim: Victim, examples: int, *, signed: bool) -> Fuzzed:
    def sign() -> dict[str, str]:
        return dendrite_headers(victim, signer=PERMITTED, uuid="api-fuzzer")

    jobs = victim.jobs()
    found = fuzz(
        "axon, signed" if signed else "axon, not signed",
        axon_document(signed=signed),
        f"http://127.0.0.1:{victim.port}",
        examples=examples,
        sign=sign if signed else None,
    )
    new = victim.jobs() - jobs
    if signed and not new:
        found.failures.append("no signed job was taken: the fuzzer draws nothing that is right")
    if not signed and new:
        found.failures.append(f"{new} jobs were taken from nobody")
    return found


async def _bring_jobs(victim: Victim) -> None:
    for number in range(JOBS):
        body = json.dumps(JOB | {"execution_id": f"api-{number}"}).encode()
        assert (await talk(victim, [post(dendrite_headers(victim), body)]))[0].status == _OK

    async def ended() -> bool:
        return len((await victim.serve_honest()).finished) == JOBS

    async def facts() -> str:
        return victim.miner.last_lines(5)

    await until(ended, seconds=30.0, what="jobs to look at", facts=facts)


def main() -> bool:
    """The full run: prints a table, keeps every surface; whether all promises held."""
    record = Record("hostile api")
    for one in asyncio.run(fuzz_all(FULL_EXAMPLES)):
        statuses = ", ".join(f"{count}x {status}" for status, count in sorted(one.calls.items()))
        failures = Counter(one.failures)
        record.add(one.surface, statuses, ok=not failures, requests=one.total)
        sys.stdout.write(f"{'WRONG' if failures else 'ok   '} {one.surface:<20} {one.total:6d} requests: {statuses}\n")
        for failure, count in failures.most_common():
            sys.stdout.write(f"      {count}x {failure}\n")
    return not record.wrong
