"""An expectation value out of many jobs of the operator's own: what they are, having them run, and following them.

All that is needed to go on after a kill is the request's id and the same words again: the plan is the same at every
call (`qcompute.cluster.cutting`), and the daemon makes the job of a part once (`qcompute.miner.own_requests`).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from qcompute.circuits.counts import normalize_counts
from qcompute.cluster.cutting import CuttingPlan, PartResult
from qcompute.console.own_jobs import answered
from qcompute.console.sources import must_be_told
from qcompute.errors import ConfigError
from qcompute.miner.commands import Cancel, CommandRefused, Look, Parts, Run
from qcompute.miner.job import State, Verdict
from qcompute.miner.own_requests import PartOf
from qcompute.miner.settings import Settings
from qcompute.units import ExecutionId, Shots

LOOK_SECONDS: Final = 0.3

LONGEST_LOOK_SECONDS: Final = 3.0
"""The pause between two looks grows up to this while nothing ends: a vendor's queue takes hours, and each look is work
for the daemon."""

CANCEL_SECONDS: Final = 15.0
"""How long the others of a failed part are asked to end; one in the middle of a submit cannot be, for a moment."""

_LOOKED_AT: Final = 100
"""Parts asked about at once: the daemon reads a row for each, and has other work."""

_PATIENT_SECONDS: Final = 10.0
"""A daemon counts its jobs once a second and closes a job after its result can be seen: so long it may still be full of
ours when all of them have ended."""

_STOPPED: Final[tuple[Verdict | None, ...]] = (Verdict.REFUSED, Verdict.FAILED, None, Verdict.CANCELLED)
"""Which of several that stopped is told of: those were called off because of one of these."""

_NUMBER: Final = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?"
_TERM: Final = re.compile(rf"\s*([+-])?\s*(?:({_NUMBER})\s*\*?\s*)?([IXYZ]+)\s*")


def parse_observable(text: str) -> dict[str, float]:
    """``1.0*ZZZZ + 0.5*XIIX`` as Pauli strings and coefficients; a string that stands twice is added up.

    Raises:
        ConfigError: it is not written so; says from where on.
    """
    terms: dict[str, float] = {}
    place = 0
    while place < len(text) or not terms:
        found = _TERM.match(text, place)
        if found is None or (terms and found[1] is None):
            raise ConfigError(
                f"--observable is not understood from {text[place : place + 20]!r} on: write a sum of Pauli strings, "
                "as in '1.0*ZZZZ + 0.5*XIIX'; the rightmost letter is qubit 0"
            )
        coefficient = float(found[2] or 1) * (-1 if found[1] == "-" else 1)
        terms[found[3]] = terms.get(found[3], 0.0) + coefficient
        place = found.end()
    return terms


def observable_text(terms: Iterable[tuple[str, float]]) -> str:
    """The same the other way round."""
    text = " ".join(f"{'-' if coefficient < 0 else '+'} {abs(coefficient):g}*{pauli}" for pauli, coefficient in terms)
    return text.removeprefix("+ ")


@dataclass(frozen=True)
class Request:
    """What is asked for. The same ``request_id`` with anything else changed is refused by the daemon."""

    request_id: UUID
    plan: CuttingPlan = field(repr=False)
    shots: tuple[Shots, ...]
    device: str | None

    @property
    def options(self) -> dict[str, Any]:
        """``configuration_data`` of every part: the same in all, or they could not share a submission."""
        mark = {"request": str(self.request_id), "plan": _digest(self.plan)}
        return {"expectation": mark} | ({} if self.device is None else {"device": self.device})

    def part(self, number: int, attempt: int) -> Run:
        """What the daemon is told."""
        text = self.plan.subexperiments[number].text
        place = PartOf(request=self.request_id, number=number, attempt=attempt)
        return Run(circuit=text, shots=self.shots[number], options=self.options, part=place)


def _digest(plan: CuttingPlan) -> str:
    """Says whether two plans ask for the same; numbers that a library may round otherwise are left out."""
    asked = [
        plan.circuit_sha256,
        plan.observable,
        plan.max_subcircuit_qubits,
        [one.text for one in plan.subexperiments],
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Known:
    """The last try of a part that is at the daemon."""

    number: int
    attempt: int
    execution_id: ExecutionId
    state: State
    verdict: Verdict | None

    @property
    def is_lost(self) -> bool:
        """Whether it ended without counts."""
        return self.verdict not in (None, Verdict.SUCCEEDED)


class PartStopped(Exception):
    """A part failed, or is held; ``told`` is what the daemon says of it."""

    def __init__(self, number: int, told: Mapping[str, Any]) -> None:
        super().__init__(number)
        self.number = number
        self.job: Mapping[str, Any] = told["job"]
        self.words = str(told["message"] or self.job["error"] or "no reason was given")

    @property
    def is_held(self) -> bool:
        """Whether it may still end well."""
        return self.job["state"] == State.HELD


class RequestJobs:
    """The jobs of a request at the daemon. What it raises besides: see `qcompute.console.own_jobs.answered`."""

    def __init__(self, settings: Settings, request: Request) -> None:
        self._settings = settings
        self._request = request
        self._room = math.inf
        self._patient_until = -math.inf
        self.ended: dict[int, dict[str, Any]] = {}
        self.open: dict[int, ExecutionId] = {}

    def known(self, numbers: Iterable[int]) -> dict[int, Known]:
        """Those of ``numbers`` that are there."""
        asked = Parts(request=self._request.request_id, numbers=list(numbers))
        return {row["number"]: _known(row) for row in answered(self._settings, asked)["parts"]}

    def run(self, here: Mapping[int, Known], missing: Mapping[int, int], show: Callable[[int], None]) -> None:
        """Hand over what is missing (number and attempt), and wait until all have ended well; ``ended`` has them then.

        ``show`` is told how many have ended.

        Raises:
            PartStopped: one failed or is held. The others are as they are, in ``open``.
            CommandRefused: the daemon takes none of those that are missing.
        """
        self.open = {number: part.execution_id for number, part in here.items() if number not in missing}
        waiting = deque(sorted(missing.items()))
        pause_seconds, seen = LOOK_SECONDS, 0
        while waiting or self.open:
            self._hand_over(waiting)
            self._look()
            show(len(self.ended))
            is_still = len(self.ended) == seen
            pause_seconds = min(pause_seconds * 1.2, LONGEST_LOOK_SECONDS) if is_still else LOOK_SECONDS
            seen = len(self.ended)
            if waiting or self.open:
                time.sleep(pause_seconds)

    def _hand_over(self, waiting: deque[tuple[int, int]]) -> None:
        """As many as the daemon takes: a full one takes more when one of ours has ended."""
        while waiting and len(self.open) < self._room:
            number, attempt = waiting[0]
            try:
                told = answered(self._settings, self._request.part(number, attempt))
            except CommandRefused:
                if not self.open and time.monotonic() > self._patient_until:
                    raise
                self._room = max(len(self.open), 1)
                return
            self.open[number] = ExecutionId(told["execution_id"])
            waiting.popleft()

    def _look(self) -> None:
        stopped: list[PartStopped] = []
        numbers = list(self.open)[:_LOOKED_AT]
        known = self.known(numbers)
        for number in numbers:
            execution_id = self.open.pop(number)
            part = known.get(number)
            if part is not None and part.verdict is None and part.state is not State.HELD:
                self.open[number] = execution_id  # behind the others, who are looked at first the next time
                continue
            told = answered(self._settings, Look(execution_id=execution_id))
            if told["job"]["verdict"] == Verdict.SUCCEEDED:
                self.ended[number] = told
                self._room = math.inf
                self._patient_until = time.monotonic() + _PATIENT_SECONDS
            else:
                stopped.append(PartStopped(number, told))
        if stopped:
            self.open |= {one.number: ExecutionId(one.job["execution_id"]) for one in stopped if one.is_held}
            raise min(stopped, key=lambda one: _STOPPED.index(one.job["verdict"]))

    def first_stopped(self, lost: Sequence[Known]) -> PartStopped:
        """What the part ended with because of which the others of ``lost`` did."""
        part = min(lost, key=lambda one: _STOPPED.index(one.verdict))
        return PartStopped(part.number, answered(self._settings, Look(execution_id=part.execution_id)))

    def cancel_open(self, reason: str) -> tuple[list[int], list[int]]:
        """Call off what has not ended. The numbers of those that are or will be, and of those that cannot be."""
        deadline = time.monotonic() + CANCEL_SECONDS
        left: dict[int, ExecutionId] = dict(self.open)
        called_off: list[int] = []
        while left:
            for number, execution_id in list(left.items()):
                try:
                    must_be_told(self._settings, Cancel(execution_id=execution_id, reason=reason))
                except CommandRefused:
                    continue  # it has ended, or is in the middle of its submit, or is held
                del left[number]
                called_off.append(number)
            now = self.known(left)
            left = {number: name for number, name in left.items() if number in now and now[number].verdict is None}
            if not left or all(now[number].state is State.HELD for number in left) or time.monotonic() > deadline:
                break
            time.sleep(LOOK_SECONDS)
        return sorted(called_off), sorted(left)

    def results(self) -> list[PartResult]:
        """What the parts gave, when all have ended well.

        Raises:
            BadReply: counts that cannot be those of their circuit.
        """
        return [self._result(number) for number in range(len(self._request.shots))]

    def _result(self, number: int) -> PartResult:
        job: dict[str, Any] = self.ended[number]["job"]
        part, shots = self._request.plan.subexperiments[number], self._request.shots[number]
        return PartResult(
            subexperiment=number,
            node=f"{job['provider']}/{job['device_id']}",
            shots=shots,
            counts=normalize_counts(self.ended[number]["counts"], shots=shots, num_clbits=part.num_clbits),
            receipt_id=job["execution_id"],
        )


def _known(row: Mapping[str, Any]) -> Known:
    return Known(
        number=row["number"],
        attempt=row["attempt"],
        execution_id=ExecutionId(row["execution_id"]),
        state=State(row["state"]),
        verdict=None if row["verdict"] is None else Verdict(row["verdict"]),
    )
