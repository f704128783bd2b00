"""The points every run must meet, by story, and which of them the matrix and its sample kill at."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Final

from qcompute.miner.providers.base import Idempotency
from qcompute.testing.crash_points import CrashPoint, When
from tests.crash.matrix import Case
from tests.crash.stories import HELD, LATE, LOST, PACK, ROAD, SPLIT, STORIES, Story

_ONCE: Final = (
    "open ledger",
    "forget_nonces",
    "forget_charges",
    "purge",
    "list",
    "capability",
    "availability",
    "pricing",
    "GET token",
    "PATCH backends",
    "POST datapoints",
    "answer collect",
    "use_nonce",
    "save waiting>waiting",
    "poll",
    "save accepted>settled",
    "save ready>settled",
    "say offline",
    "close",
)
"""What a daemon does whatever jobs it has, or a number of times that depends on the clock."""

_EACH_JOB: Final = (
    "answer job",
    "accept",
    "GET circuit",
    "save accepted>ready",
    "estimate",
    "save ready>submitting",
    "save submitting>submitting mark",
    "submit",
    "save submitting>waiting",
    "receipt",
    "save waiting>settled",
    "POST executions/upload",
    "PUT upload",
    "PATCH executions",
    "save settled>closed",
)
"""What is done once for each job that comes so far: killed at the first of them, and at the last."""

AROUND_SUBMIT: Final = ("save submitting>submitting mark", "submit", "save submitting>waiting")

_TO_THE_END: Final = (*AROUND_SUBMIT, "receipt", "save waiting>settled", "PUT upload", "save settled>closed")

EXPECTED: Final[Mapping[str, tuple[str, ...]]] = {
    ROAD.name: (*_ONCE, *_EACH_JOB),
    LOST.name: ("save submitting>submitting", "find", "save submitting>waiting"),
    LATE.name: ("cancel", "save waiting>waiting", "receipt", "save waiting>settled", "PATCH executions"),
    HELD.name: ("find", "save submitting>held", "save held>settled", "PATCH executions"),
    SPLIT.name: ("save ready>waiting", *_TO_THE_END),
    PACK.name: ("save ready>submitting", *_TO_THE_END),
}
"""Every place, and the story whose run without a kill comes by. The matrix takes its points from that run; a place that
is not met any more fails it, so that none vanishes unnoticed."""

_CRITICAL: Final = (
    "accept",
    "save ready>submitting",
    *AROUND_SUBMIT,
    "receipt",
    "save waiting>settled",
    "POST executions/upload",
    "PUT upload",
    "PATCH executions",
    "save settled>closed",
)
"""Where money, a result or a delivery is on its way. Only there does a crash leave something that a second one could
make worse; after one at any other place (the single matrix shows it) the rows are as if it had not been."""

_AFTER_A_KILL: Final = ("find", "save submitting>submitting unmark")
"""What only a life after a kill does."""


def singles(met: Mapping[str, Mapping[tuple[str, When], int]]) -> Iterator[Case]:
    """Every point of every story, the last of those done for each job too, and those around submit on every vendor.

    ``met`` is how often a run without a kill came by each place.
    """
    for story, names in EXPECTED.items():
        for name in names:
            for when in When:
                last = met[story].get((name, when), 1) if name in _EACH_JOB else 1
                for occurrence in sorted({1, last}):
                    yield Case(STORIES[story], (CrashPoint(name, when, occurrence),))
    for story in (*_by_idempotency(), *_packs_elsewhere()):
        for name in AROUND_SUBMIT:
            for when in When:
                yield Case(story, (CrashPoint(name, when),))


def pairs() -> list[Case]:
    """Every critical place after every critical place, in an order in which any first part is spread over all."""
    first = [CrashPoint(name, when) for name in _CRITICAL for when in When]
    second = [CrashPoint(name, when) for name in (*_CRITICAL, *_AFTER_A_KILL) for when in When]
    road = [Case(ROAD, (one, two)) for one in first for two in second]
    around = [
        Case(story, (CrashPoint("submit", when), CrashPoint(name, then)))
        for story in _by_idempotency()
        if story.can_look
        for when in When
        for name in _AFTER_A_KILL
        for then in When
    ]
    together = [
        Case(story, (CrashPoint(name, when), CrashPoint(after, then)))
        for story, names in _of_several()
        for name in names
        for when in When
        for after in (*names, *_AFTER_A_KILL)
        for then in When
    ]
    everything = [*road, *around, *together]
    # A stride without a common divisor visits each case once, far from the one before.
    count = len(everything)
    stride = next(number for number in itertools.count(count * 5 // 13) if math.gcd(number, count) == 1)
    return [everything[place * stride % count] for place in range(count)]


def _packs_elsewhere() -> list[Story]:
    return [story for name, story in STORIES.items() if name.startswith(f"{PACK.name}/")]


def _of_several() -> Iterator[tuple[Story, tuple[str, ...]]]:
    """Jobs that are several vendor jobs, or one with others: where one kill may part what belongs together."""
    yield SPLIT, ("save ready>waiting", *AROUND_SUBMIT, "save waiting>settled", "save settled>closed")
    for story in (PACK, *_packs_elsewhere()):
        yield story, (*AROUND_SUBMIT, "save waiting>settled")


def _by_idempotency() -> list[Story]:
    return [STORIES[f"road/{one}"] for one in Idempotency if f"road/{one}" in STORIES]
