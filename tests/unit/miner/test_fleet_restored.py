"""Jobs of a ledger that was restored from a copy: since then each may have gone to any account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from qcompute.miner.job import State
from qcompute.miner.providers.base import Absent, CannotTell, Found, Idempotency, JobHandle
from qcompute.units import ProviderKey
from tests.unit.miner.test_fleet_routing import FleetScene, placement


@pytest.fixture
async def scene() -> AsyncIterator[FleetScene]:
    scene = FleetScene()
    yield scene
    await scene.close()


async def restored(scene: FleetScene, **configuration: Any) -> None:
    """A job routed to ``first``, from a copy; since then it may have gone to any account."""
    for vendor in scene.vendors.values():
        vendor.idempotency = Idempotency.TOKEN  # type: ignore[misc]
        vendor.found = [Absent()]
    await scene.routed(**configuration)
    job = await scene.row()
    await scene.ledger.save(job, replace(job, submit_started_at=scene.clock(), prepared={"restored": True}))


async def test_a_restored_job_that_no_account_has_is_submitted_once(scene: FleetScene) -> None:
    """One account's list says nothing of the others'; it was held for the operator, whatever the others could prove."""
    await restored(scene)
    asked = [(await scene.step()).lane for _ in scene.vendors]
    assert asked == ["second", "sim", "first"]
    assert scene.paid == {"first": 0, "second": 0, "sim": 0}
    job = await scene.step()
    assert (job.state, job.lane, job.device_id) == (State.WAITING, "first", "q1")
    assert "restored" not in (job.prepared or {})
    assert scene.paid == {"first": 1, "second": 0, "sim": 0}


async def test_a_restored_job_that_went_to_another_account_is_found_there(scene: FleetScene) -> None:
    """And read as it was submitted there."""
    await restored(scene)
    scene.vendors["second"].found = [Found(handles=[JobHandle(provider_job_id="theirs", device_id="q2")])]
    await scene.step()
    job = await scene.step()
    assert (job.state, job.provider, job.device_id, job.provider_job_id) == (State.WAITING, "second", "q2", "theirs")
    assert (job.prepared or {}).keys() == {"measurement", "translation", "pack_index"}
    assert scene.paid == {"first": 0, "second": 0, "sim": 0}
    assert {one["account"]: one["reserved"] for one in scene.budgets.documents()}["first"] == "0"


async def test_a_restored_job_is_held_where_one_account_cannot_tell(scene: FleetScene) -> None:
    """At the account it was routed to: from there it can be released."""
    await restored(scene)
    scene.vendors["second"].found = [CannotTell(reason="its list is too short")]
    await scene.step()
    held = await scene.step()
    assert (held.state, held.provider, held.device_id) == (State.HELD, "first", "q1")
    assert held.error == "at second: it may have been submitted, and its list is too short"
    assert held.prepared == {"restored": True}
    assert scene.paid == {"first": 0, "second": 0, "sim": 0}


async def test_a_restored_job_is_held_where_another_account_makes_packs(scene: FleetScene) -> None:
    await restored(scene)
    scene.accounts[ProviderKey("sim")].limits = replace(scene.accounts[ProviderKey("sim")].limits, max_pack=10)
    await scene.step()
    await scene.step()
    held = await scene.step()
    assert (held.state, held.error_code, held.provider) == (State.HELD, "restored", "first")
    assert "at sim: since the copy was made it may have been submitted in a pack" in (held.error or "")


async def test_a_restored_job_is_held_when_an_account_it_names_was_taken_out_of_the_settings(scene: FleetScene) -> None:
    """It was submitted again: nobody asked the account that was its next candidate when the copy was made."""
    await restored(scene)
    names, asked = [candidate.account for candidate in placement(await scene.row()).candidates], "second"
    assert names == ["first", "second"]
    scene.gone = {asked}
    while (held := await scene.step()).state is State.SUBMITTING:
        assert held.lane != asked
    assert (held.state, held.provider, held.error_code, held.prepared) == (
        State.HELD,
        "first",
        "restored",
        {"restored": True},
    )
    assert (held.error or "").startswith("it is not at first, sim, but since the copy was made it may have gone on to")
    assert "second, which this miner does not have any more: set it up again and release the job" in (held.error or "")
    assert scene.paid == {"first": 0, "second": 0, "sim": 0}

    scene.gone = set()
    scene.vendors[asked].found = [Found(handles=[JobHandle(provider_job_id="theirs", device_id="q2")])]
    released = replace(held, state=State.SUBMITTING, due_at=scene.clock())  # as `qcompute jobs release` does
    await scene.ledger.save(held, released)
    assert (await scene.step()).lane == asked
    job = await scene.step()
    assert (job.state, job.provider, job.provider_job_id) == (State.WAITING, asked, "theirs")


async def test_an_account_that_was_asked_before_it_was_taken_out_holds_nothing_up(scene: FleetScene) -> None:
    """It was held for what that account might have, which had proved to have nothing."""
    await restored(scene)
    while (await scene.step()).lane != "sim":
        pass
    scene.gone = {"second"}
    while (job := await scene.step()).state is State.SUBMITTING:
        assert job.lane != "second"
    assert (job.state, job.provider) == (State.WAITING, "first")
    assert scene.paid == {"first": 1, "second": 0, "sim": 0}


async def test_a_restored_job_that_may_have_been_split_is_held(scene: FleetScene) -> None:
    """Its parts have tokens of their own, and which parts there were is not in the copy."""
    scene.settings["split_shots_from"] = 2
    await restored(scene)
    held = await scene.step()
    assert (held.state, held.error_code) == (State.HELD, "restored")
    assert "it may have been split over several accounts; look at second, sim" in (held.error or "")
