"""What the router knows of queues while it routes many jobs at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from qcompute.circuits.program import JobOptions
from qcompute.circuits.target import Dialect, Target
from qcompute.console.words import nowhere_words
from qcompute.errors import Bug, CannotRun
from qcompute.miner.account import Account
from qcompute.miner.fleet import Fleet
from qcompute.miner.placement import MAX_REFUSALS, Rejection, kept_not_chosen, not_chosen
from qcompute.miner.providers.base import Device
from qcompute.units import ExecutionId, ProviderKey
from tests.unit.miner.test_fleet_routing import FleetScene, Priced, devices


class Compiling(Priced):
    """Takes circuits that were compiled for it, so that each is away in the sandbox before it is placed."""

    @override
    def target(self, device: Device, options: JobOptions) -> Target | None:
        del device, options
        return Target(dialect=Dialect.OPENQASM_2)


class TwoQueues(FleetScene):
    """Two devices alike, both idle; a job goes where it is expected to start first."""

    def __init__(self, kind: type[Priced]) -> None:
        super().__init__()
        self.settings["policy"] = "fastest"
        self.vendors = {name: kind(devices=devices("QPU", "q"), pending=0) for name in ("first", "second")}
        self.accounts = {
            ProviderKey(name): Account(ProviderKey(name), vendor, threads=2) for name, vendor in self.vendors.items()
        }
        self.fleet = Fleet(self.accounts.values(), self.budgets)

    async def all_routed(self, count: int) -> Counter[str | None]:
        """Where so many jobs went that were routed in the same moment."""
        names = [f"job-{number}" for number in range(count)]
        jobs = [await self.ready(name) for name in names]
        await asyncio.gather(*(self.router.handle(job) for job in jobs))
        return Counter([(await self.row(name)).provider for name in names])


@pytest.fixture(params=[Priced, Compiling], ids=["taken as it is", "compiled"])
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[TwoQueues]:
    scene = TwoQueues(request.param)
    yield scene
    await scene.close()


async def test_jobs_routed_in_the_same_moment_see_each_other(scene: TwoQueues) -> None:
    """A wave of jobs stood in one queue while the device beside it had nothing to do.

    Each had looked at the queues before any of the others was counted as sent.
    """
    assert await scene.all_routed(8) == {"first": 4, "second": 4}


async def test_a_device_that_refuses_is_not_counted_as_chosen(scene: TwoQueues) -> None:
    scene.vendors["first"].prepare_error = CannotRun("not this one", reason="too_wide")
    assert await scene.all_routed(4) == {"second": 4}
    scene.vendors["first"].prepare_error = None
    assert await scene.all_routed(12) == {"first": 8, "second": 4}  # as many at each, with those before


async def test_a_job_that_no_device_can_run_keeps_what_each_said(scene: TwoQueues) -> None:
    """The operator was shown one reason, and of the other devices how many there were."""
    for name, vendor in scene.vendors.items():
        vendor.check_error = CannotRun(f"too wide for {name}", reason="too_wide")
    await scene.router.handle(await scene.ready("job-1"))
    outcome = await scene.ledger.outcome(ExecutionId("job-1"))
    assert outcome is not None
    assert outcome.message == "too wide for first; and 1 more cannot run it"
    assert nowhere_words(outcome) == [
        "not chosen: first/q: too wide for first",
        "not chosen: second/q: too wide for second",
    ]


def test_reasons_are_kept_for_so_many_devices_and_the_others_are_counted() -> None:
    rejections = [Rejection(account="a", device_id=f"d{number}", reason="no") for number in range(MAX_REFUSALS + 3)]
    kept, more = kept_not_chosen(not_chosen(rejections))
    assert (kept, more) == (rejections[:MAX_REFUSALS], 3)
    assert kept_not_chosen({"code": "deadline"}) == ([], 0)
    with pytest.raises(Bug):
        kept_not_chosen({"not_chosen": [{"account": 3}]})
