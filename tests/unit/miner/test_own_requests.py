"""A request made of many jobs: the same words again make none twice, and other words are refused."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qcompute.miner.commands import CommandRefused, Parts, Run
from qcompute.miner.job import State, Verdict
from qcompute.miner.own_requests import MAX_PARTS, PartOf, made_at, new_request_id
from qcompute.protocol import is_execution_id, is_own
from tests.unit.miner.scripted import BELL, Scene
from tests.unit.miner.test_own_jobs import own_jobs


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


def part(request: uuid.UUID, number: int = 0, attempt: int = 0, **changed: Any) -> Run:
    place = PartOf(request=request, number=number, attempt=attempt)
    return Run(circuit=BELL, shots=10, part=place).model_copy(update=changed)


async def rows(scene: Scene) -> int:
    return sum((await scene.ledger.count_by_state()).values())


def test_a_request_s_id_says_when_it_was_made() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    request = new_request_id()
    made = made_at(request)
    assert (request.version, request.variant) == (7, uuid.RFC_4122)
    assert made is not None
    assert before <= made <= datetime.now(UTC)
    assert made_at(uuid.uuid4()) is None
    assert new_request_id() != request
    published = uuid.UUID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
    # RFC 9562, appendix A.6: the test vector of version 7.
    assert made_at(published) == datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


def test_a_part_s_id_follows_from_request_number_and_attempt_and_from_nothing_else() -> None:
    request = uuid.UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
    names = [
        PartOf(request=who, number=number, attempt=attempt).execution_id
        for who in (request, uuid.UUID(int=request.int + 1))
        for number in (0, 1, 10, MAX_PARTS - 1)
        for attempt in (0, 1)
    ]
    assert len(set(names)) == len(names)
    assert all(is_own(name) and is_execution_id(name) for name in names)
    # Written down: a later version that named them otherwise would pay for requests of this one again.
    assert names[:2] == [f"operator.{uuid.uuid5(request, '0')}", f"operator.{uuid.uuid5(request, '0.1')}"]


async def test_the_same_part_is_one_job_however_often_it_is_asked_for(scene: Scene) -> None:
    own, request = own_jobs(scene), new_request_id()
    first = await own(part(request, 3))
    assert await own(part(request, 3)) == first
    ready = await scene.row(first["execution_id"])
    await scene.road.save(ready, ready.but(state=State.READY, circuit_sha256=sha256_of(BELL)), circuit=BELL)
    assert await own(part(request, 3)) == first
    assert await own(part(request, 4)) != first
    assert await rows(scene) == 2


@pytest.mark.parametrize(
    "changed", [{"circuit": BELL + "// other"}, {"shots": 11}, {"options": {"device": "dev"}}], ids=str
)
async def test_the_same_id_with_another_content_is_refused(scene: Scene, changed: dict[str, Any]) -> None:
    own, request = own_jobs(scene), new_request_id()
    told = await own(part(request))
    with pytest.raises(CommandRefused, match="another circuit, other shots or other options"):
        await own(part(request, **changed))
    job = await scene.row(told["execution_id"])
    await scene.road.save(job, job.but(state=State.READY, circuit_sha256=sha256_of(BELL)), circuit=BELL)
    with pytest.raises(CommandRefused, match="another circuit, other shots or other options"):
        await own(part(request, **changed))
    assert await rows(scene) == 1


async def test_what_may_have_been_removed_as_too_old_is_not_begun_anew(scene: Scene) -> None:
    """Else a request resumed after the ledger forgot its jobs would be paid a second time."""
    own = own_jobs(scene, retention_days=3)
    age_ms = int(timedelta(days=3, minutes=1).total_seconds() * 1000)
    old = uuid.UUID(int=new_request_id().int - (age_ms << 80))
    for request in (old, uuid.uuid4()):
        with pytest.raises(CommandRefused, match="the last 3 days"):
            await own(part(request))
    assert await rows(scene) == 0


async def test_a_part_is_tried_again_only_after_it_failed(scene: Scene) -> None:
    own, request = own_jobs(scene), new_request_id()
    with pytest.raises(CommandRefused, match="has not failed"):
        await own(part(request, attempt=1))
    told = await own(part(request))
    with pytest.raises(CommandRefused, match="has not failed"):
        await own(part(request, attempt=1))
    job = await scene.row(told["execution_id"])
    await scene.road.end_without_result(job, Verdict.FAILED, code="x", message="the device broke")
    again = await own(part(request, attempt=1))
    assert again != told
    known = await own(Parts(request=request, numbers=[0, 1]))
    facts = {"number": 0, "attempt": 1, "execution_id": again["execution_id"], "state": "accepted"}
    assert known == {"parts": [facts | {"verdict": None}]}


async def test_asking_about_parts_that_cannot_be_is_refused(scene: Scene) -> None:
    with pytest.raises(CommandRefused, match="number"):
        await own_jobs(scene)(Parts(request=new_request_id(), numbers=[-1]))


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
