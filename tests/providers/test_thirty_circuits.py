"""The same thirty circuits through every adapter say what Aer says, bit by bit where chance has no part.

Two samples of N shots over K outcomes differ in total variation by at most sqrt(K / 2N) on average, and by t more with
a probability below exp(-N t^2) (McDiarmid). With N = 2000 and t = 0.1 that is 2 in 10^9 for each circuit.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping
from typing import Final

import pytest

from qcompute.miner.job import State, Verdict
from qcompute.units import Counts
from tests.doubles.kits import VENDORS, kit
from tests.doubles.worker import shared
from tests.providers.matrix import AdapterRoad
from tests.providers.thirty_circuits import THIRTY, Sample

SHOTS: Final = 2000
SLACK: Final = 0.1


def distance(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Total variation distance of two counts of `SHOTS` each."""
    return sum(abs(one.get(key, 0) - other.get(key, 0)) for key in one.keys() | other.keys()) / 2 / SHOTS


def threshold(outcomes: int) -> float:
    """How far two honest samples may be apart."""
    return math.sqrt(outcomes / (2 * SHOTS)) + SLACK


def of_aer(sample: Sample) -> Counts:
    """Aer's own answer to the text as it is."""
    request = {"language": sample.language, "text": sample.source, "shots": SHOTS, "seed": 11}
    memory = shared("tests.doubles.aer_worker").ask(request)["memory"]
    return dict(Counter(shot.replace(" ", "") for shot in memory))


@pytest.mark.parametrize("vendor", VENDORS)
async def test_every_adapter_agrees_with_aer(vendor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kit_ = kit(vendor)
    with kit_.double() as double:
        adapter = kit_.open(double, monkeypatch)
        road = AdapterRoad(vendor, adapter)
        for number, sample in enumerate(THIRTY):
            await road.ready(f"circuit-{number}", sample.source, shots=SHOTS, device=kit_.device)
        await asyncio.gather(
            *(road.until(f"circuit-{number}", State.SETTLED, State.HELD) for number in range(len(THIRTY)))
        )
        problems = [
            f"{sample.name}: {wrong}"
            for number, sample in enumerate(THIRTY)
            if (wrong := await problem(road, f"circuit-{number}", sample)) is not None
        ]
        await road.close()
        adapter.close()
    assert problems == []


async def problem(road: AdapterRoad, name: str, sample: Sample) -> str | None:
    """What is wrong with a job's result; None when it is right."""
    job = await road.row(name)
    outcome = await road.ledger.outcome(job.execution_id)
    if job.verdict is not Verdict.SUCCEEDED or outcome is None or outcome.counts is None:
        return f"{job.verdict} {job.error}"
    if sample.exact is not None:
        return None if outcome.counts == {sample.exact: SHOTS} else f"{outcome.counts}, not {sample.exact}"
    wanted = of_aer(sample)
    apart, allowed = distance(outcome.counts, wanted), threshold(len(outcome.counts.keys() | wanted.keys()))
    return None if apart <= allowed else f"{apart:.3f} from Aer where {allowed:.3f} is allowed: {outcome.counts}"


def test_the_threshold_tells_a_reversed_result_from_a_right_one() -> None:
    """The check must be able to fail: a ladder of rotations read backwards is far off."""
    sample = next(sample for sample in THIRTY if sample.name.startswith("rotations, OpenQASM 2"))
    right = of_aer(sample)
    reversed_ = {key[::-1]: value for key, value in right.items()}
    assert distance(right, right) == 0
    assert distance(right, reversed_) > threshold(len(right.keys() | reversed_.keys()))
