"""What happens while the daemon is killed: jobs of every kind, and a vendor that behaves as the story needs."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from qcompute.local.demo_jobs import BELL, GARBAGE, TOO_WIDE
from qcompute.miner.job import Verdict
from qcompute.miner.providers.base import Idempotency
from qcompute.miner.providers.mock import MockAdapter

SHOTS: Final = 50
_FAIL_RATE: Final = 0.5
MOCK: Final = "QCOMPUTE_PROVIDERS__MOCK__"
MINER: Final = "QCOMPUTE_MINER__"


@dataclass(frozen=True, slots=True)
class Job:
    """A circuit, and how it must end; ``reaches_vendor`` says whether it is submitted at all.

    ``parts``: its shots are divided over so many vendor jobs.
    """

    qasm: str
    verdict: Verdict
    parts: int = 1

    @property
    def options(self) -> dict[str, Any]:
        """Its ``configuration_data``."""
        return {"split": {"kind": "shots", "parts": self.parts}} if self.parts > 1 else {}

    @property
    def reaches_vendor(self) -> bool:
        """Whether it must be paid for."""
        return self.verdict is not Verdict.REFUSED


@dataclass(frozen=True, slots=True)
class Story:
    """Jobs, and the settings of the miner in its first life and in all later ones.

    ``can_look`` is false for a vendor that cannot be asked for a job: what may be paid is then held, and ends as
    failed when nobody comes.
    """

    name: str
    jobs: tuple[Job, ...]
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    later: Mapping[str, str] = field(default_factory=dict[str, str])
    can_look: bool = True

    @property
    def environment(self) -> dict[str, str]:
        """What the miner is started with."""
        return {**_QUICK, **self.settings}


_QUICK: Final = {
    f"{MOCK}RUN_SECONDS": "0.25",
    f"{MOCK}POLL_INTERVAL_SECONDS": "0.1",
    f"{MOCK}FAIL_RATE": str(_FAIL_RATE),
    f"{MINER}SECOND_LOOK_SECONDS": "0.4",
    f"{MINER}DELIVERY_BACKOFF_MAX_SECONDS": "1",
}


def bells(*, failing: bool) -> itertools.chain[str]:
    """Bell pairs without end, no two the same, which the mock runs or, if so wished, fails."""
    mock = MockAdapter()
    texts = (f"{BELL}// {number}\n" for number in itertools.count())

    def fails(text: str) -> bool:
        sha = hashlib.sha256(text.encode()).hexdigest()
        return mock._random(f"{sha}/None", "fails").random() < _FAIL_RATE

    return itertools.chain(text for text in texts if fails(text) is failing)


def _jobs(good: int, failing: int) -> tuple[Job, ...]:
    run = [Job(text, Verdict.SUCCEEDED) for text in itertools.islice(bells(failing=False), good)]
    return (*run, *(Job(text, Verdict.FAILED) for text in itertools.islice(bells(failing=True), failing)))


_REFUSED: Final = (Job(GARBAGE, Verdict.REFUSED), Job(TOO_WIDE, Verdict.REFUSED))
"""One that the screen refuses, and one that the router does."""

_ALL_KINDS: Final = (*_jobs(3, 1), *_REFUSED)

ROAD: Final = Story("road", _ALL_KINDS)
"""Three jobs that run, one that fails at the vendor, one refused by the screen and one by the router."""

LOST: Final = Story("lost", _jobs(1, 0), {f"{MOCK}LOSE_SUBMIT_ANSWERS": "1"}, later={f"{MOCK}LOSE_SUBMIT_ANSWERS": "0"})
"""The vendor has the job and its answer never came: the daemon looks for it."""

LATE: Final = Story(
    "late",
    tuple(Job(job.qasm, Verdict.CANCELLED) for job in _jobs(2, 0)),
    {f"{MOCK}QUEUE_SECONDS": "3600", f"{MOCK}FORETELL": "false", f"{MINER}JOB_DEADLINE_SECONDS": "8"},
)
"""Jobs that are not done by their deadline: the vendor is asked to cancel them. With four seconds a
busy machine did not even submit them."""

HELD: Final = Story(
    "held",
    _jobs(1, 0),
    {
        f"{MOCK}LOSE_SUBMIT_ANSWERS": "1",
        f"{MOCK}IDEMPOTENCY": Idempotency.NONE,
        f"{MINER}HELD_DEADLINE_SECONDS": "1",
    },
    later={f"{MOCK}LOSE_SUBMIT_ANSWERS": "0"},
    can_look=False,
)
"""An answer is lost and the vendor cannot be asked: the job is held, and ends when no operator comes."""


SPLIT: Final = Story(
    "split",
    (Job(next(bells(failing=False)), Verdict.SUCCEEDED, parts=3), *_jobs(1, 0)),
    {f"{MOCK}FAIL_RATE": "0"},
)
"""A job in three parts and one in a single piece; the parts have unlike shots, so that none can stand for another."""

PACK: Final = Story("pack", (*_jobs(4, 0), *_REFUSED[:1]), {f"{MOCK}FAIL_RATE": "0", f"{MOCK}MAX_PACK": "3"})
"""Four jobs that wait for the account's turn together, of which three fit into one vendor job."""


def pack_with(idempotency: Idempotency) -> Story:
    """Packs on a vendor that finds lost submits in this way, as IBM does by tags."""
    return Story(f"pack/{idempotency}", PACK.jobs, {**PACK.settings, **road_with(idempotency).settings})


def road_with(idempotency: Idempotency) -> Story:
    """The road on a vendor that finds lost submits in this way. Lists lag behind, by less than a second look waits."""
    settings = {f"{MOCK}IDEMPOTENCY": idempotency.value}
    if idempotency in (Idempotency.TAG, Idempotency.SCAN):
        settings |= {f"{MOCK}LAG_SECONDS": "0.3", f"{MINER}SECOND_LOOK_SECONDS": "0.6"}
    if idempotency is Idempotency.NONE:
        settings[f"{MINER}HELD_DEADLINE_SECONDS"] = "1"
    return Story(f"road/{idempotency}", _ALL_KINDS, settings, can_look=idempotency is not Idempotency.NONE)


STORIES: Final = {
    story.name: story
    for story in (
        ROAD,
        LOST,
        LATE,
        HELD,
        SPLIT,
        PACK,
        pack_with(Idempotency.TAG),
        *(road_with(one) for one in Idempotency if one is not Idempotency.TOKEN),
    )
}
