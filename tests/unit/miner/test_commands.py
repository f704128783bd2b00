"""What an operator may do with a held job, and the socket a daemon hears it through."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from qcompute.errors import ConfigError
from qcompute.miner import commands as module
from qcompute.miner.commands import (
    Adopt,
    Cancel,
    CommandRefused,
    CommandSocket,
    Fail,
    OperatorCommands,
    Release,
    RetryDelivery,
    tell_daemon,
)
from qcompute.miner.job import Job, State, Verdict
from qcompute.units import ProviderJobId, ProviderKey
from tests.unit.miner.scripted import Scene

UID = 1234
ID = "job-1"


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


def operator(scene: Scene) -> OperatorCommands:
    return OperatorCommands(scene.road, ProviderKey("scripted"))


async def held(scene: Scene, **changes: Any) -> Job:
    """A job that may have been submitted, held for its operator."""
    job = await scene.submitting(submit_started_at=scene.clock(), submit_attempts=1)
    due_at = scene.clock() + timedelta(days=1)
    return await scene.road.save(job, replace(job, state=State.HELD, due_at=due_at, error_code="x", **changes))


async def test_a_release_keeps_the_mark_so_the_job_is_looked_for_before_anything_is_paid(scene: Scene) -> None:
    before = await held(scene)
    row = await operator(scene).run(Release(execution_id=ID, reason="account was down"), uid=UID)
    assert (row.state, row.due_at, row.attempts) == (State.SUBMITTING, scene.clock(), 0)
    assert row.submit_started_at == before.submit_started_at
    assert row.error == f"by the operator (uid {UID}): account was down"


async def test_only_the_operator_s_own_word_takes_the_mark_away(scene: Scene) -> None:
    await held(scene)
    row = await operator(scene).run(Release(execution_id=ID, never_submitted=True), uid=UID)
    assert (row.state, row.submit_started_at) == (State.SUBMITTING, None)


async def test_a_job_that_is_at_its_vendor_goes_back_to_waiting(scene: Scene) -> None:
    handle = {"provider_job_id": "v1", "device_id": "dev"}
    await held(scene, handle=handle, provider_job_id=ProviderJobId("v1"))
    with pytest.raises(CommandRefused, match="was submitted: it is v1"):
        await operator(scene).run(Release(execution_id=ID, never_submitted=True), uid=UID)
    row = await operator(scene).run(Release(execution_id=ID), uid=UID)
    assert (row.state, row.handle) == (State.WAITING, handle)


async def test_a_job_without_a_circuit_cannot_be_submitted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await held(scene)

    async def none(_: object) -> None:
        return None

    monkeypatch.setattr(scene.ledger, "circuit", none)
    with pytest.raises(CommandRefused, match="only be adopted or failed"):
        await operator(scene).run(Release(execution_id=ID, never_submitted=True), uid=UID)


async def test_a_failed_job_carries_the_reason_its_user_is_told(scene: Scene) -> None:
    await held(scene)
    row = await operator(scene).run(Fail(execution_id=ID, reason="the vendor lost it"), uid=UID)
    assert (row.state, row.verdict, row.error_code) == (State.SETTLED, Verdict.FAILED, "operator")
    outcome = await scene.ledger.outcome(row.execution_id)
    assert outcome is not None
    assert outcome.message == "the vendor lost it"
    assert await scene.ledger.receipt(row.execution_id) is not None


async def test_an_adopted_job_waits_for_the_vendor_s_job_as_it_was_written_down(scene: Scene) -> None:
    await held(scene, prepared={"measurement": None, "translation": None, "pack_index": 3}, provider=None)
    row = await operator(scene).run(Adopt(execution_id=ID, provider_job_id="v9"), uid=UID)
    assert (row.state, row.provider, row.provider_job_id) == (State.WAITING, "scripted", "v9")
    assert row.handle == {"provider_job_id": "v9", "device_id": "dev", "measurement": None, "pack_index": 3}
    assert row.submitted_at == scene.clock()


async def test_a_job_with_a_vendor_s_job_takes_no_other(scene: Scene) -> None:
    await held(scene, handle={"provider_job_id": "v1", "device_id": "dev"}, provider_job_id=ProviderJobId("v1"))
    with pytest.raises(CommandRefused, match="is v1 at its vendor already"):
        await operator(scene).run(Adopt(execution_id=ID, provider_job_id="v2"), uid=UID)


async def test_a_vendor_s_job_that_is_another_s_is_not_adopted(scene: Scene) -> None:
    """Two jobs with one vendor's job would each get its counts, and one of their users another's result."""
    await held(scene)
    other = await scene.submitting("job-2", submit_started_at=scene.clock(), submit_attempts=1)
    taken = replace(other, state=State.WAITING, provider_job_id=ProviderJobId("v9"), handle={"provider_job_id": "v9"})
    await scene.road.save(other, taken)
    with pytest.raises(CommandRefused, match="v9 is the vendor's job of job-2, which is waiting"):
        await operator(scene).run(Adopt(execution_id=ID, provider_job_id="v9"), uid=UID)
    row = await operator(scene).run(Adopt(execution_id=ID, provider_job_id="v10"), uid=UID)
    assert row.provider_job_id == "v10"


async def test_jobs_that_were_submitted_together_have_one_job_at_the_vendor(scene: Scene) -> None:
    await held(scene, prepared={"pack_index": 1})
    other = await scene.submitting("job-2", submit_started_at=scene.clock(), submit_attempts=1)
    packed = replace(other, state=State.WAITING, provider_job_id=ProviderJobId("v9"), prepared={"pack_index": 0})
    await scene.road.save(other, packed)
    row = await operator(scene).run(Adopt(execution_id=ID, provider_job_id="v9"), uid=UID)
    assert row.state is State.WAITING


async def test_a_job_that_was_not_submitted_is_cancelled_at_once_and_costs_nothing(scene: Scene) -> None:
    await scene.submitting()
    row = await operator(scene).run(Cancel(execution_id=ID, reason="a mistake"), uid=UID)
    assert (row.state, row.verdict, row.error_code, row.error) == (
        State.SETTLED,
        Verdict.CANCELLED,
        "operator",
        "a mistake",
    )
    with pytest.raises(CommandRefused, match="has ended: it is settled, cancelled"):
        await operator(scene).run(Cancel(execution_id=ID), uid=UID)


async def test_a_job_at_its_vendor_is_asked_to_end_once(scene: Scene) -> None:
    submitting = await scene.submitting(submit_started_at=scene.clock(), submit_attempts=1)
    with pytest.raises(CommandRefused, match="being submitted just now"):
        await operator(scene).run(Cancel(execution_id=ID), uid=UID)
    due_at = scene.clock() + timedelta(hours=1)
    handle = {"provider_job_id": "v1", "device_id": "dev"}
    await scene.road.save(submitting, replace(submitting, state=State.WAITING, due_at=due_at, handle=handle))
    row = await operator(scene).run(Cancel(execution_id=ID), uid=UID)
    assert (row.state, row.cancel_requested_at, row.due_at) == (State.WAITING, scene.clock(), scene.clock())
    assert await operator(scene).run(Cancel(execution_id=ID), uid=UID) == row


async def test_a_held_job_is_failed_and_not_cancelled(scene: Scene) -> None:
    await held(scene)
    with pytest.raises(CommandRefused, match="is held: cancel it at its vendor and fail it here"):
        await operator(scene).run(Cancel(execution_id=ID), uid=UID)


async def test_a_delivery_is_due_at_once_when_it_is_asked_for(scene: Scene) -> None:
    job = await scene.submitting()
    with pytest.raises(CommandRefused, match="there is nothing to deliver"):
        await operator(scene).run(RetryDelivery(execution_id=ID), uid=UID)
    settled = await scene.road.end_without_result(job, Verdict.FAILED, code="x", message="y")
    await scene.road.store(settled, replace(settled, due_at=scene.clock() + timedelta(minutes=1)))
    row = await operator(scene).run(RetryDelivery(execution_id=ID), uid=UID)
    assert row.due_at == scene.clock()


@pytest.mark.parametrize(
    "command",
    [Release(execution_id=ID), Fail(execution_id=ID, reason="r"), Adopt(execution_id=ID, provider_job_id="v")],
    ids=lambda command: command.command,
)
async def test_a_job_that_is_not_held_goes_its_own_way(scene: Scene, command: Release | Fail | Adopt) -> None:
    with pytest.raises(CommandRefused, match="there is no job job-1 here"):
        await operator(scene).run(command, uid=UID)
    before = await scene.submitting()
    with pytest.raises(CommandRefused, match="is submitting, not held"):
        await operator(scene).run(command, uid=UID)
    assert await scene.row() == before


async def test_who_did_what_and_why_is_logged(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    await held(scene)
    with caplog.at_level(logging.WARNING, logger=module.__name__):
        await operator(scene).run(Fail(execution_id=ID, reason="spent"), uid=UID)
    assert f"operator (uid {UID}): fail {ID}: held -> settled (spent)" in caplog.messages


class TestSocket:
    @pytest.fixture
    async def path(self, scene: Scene, tmp_path: Path) -> AsyncIterator[Path]:
        """A socket whose path is longer than a socket's address may be."""
        folder = tmp_path / ("deep" * 30)
        folder.mkdir()
        path = folder / "ledger.sqlite3.sock"
        listening = CommandSocket(path, operator(scene))
        await listening.start()
        yield path
        await listening.stop()
        await listening.run()
        assert list(folder.iterdir()) == []

    async def test_a_command_comes_through_and_the_kernel_says_from_whom(self, scene: Scene, path: Path) -> None:
        await held(scene)
        answer = await asyncio.to_thread(tell_daemon, path, Release(execution_id=ID, reason="r"))
        assert answer == {"ok": True, "state": "submitting", "verdict": None, "execution_id": ID}
        assert (await scene.row()).error == f"by the operator (uid {os.getuid()}): r"

    async def test_a_refusal_comes_back_in_words(self, path: Path) -> None:
        answer = await asyncio.to_thread(tell_daemon, path, Fail(execution_id="x", reason="r"))
        assert answer == {"ok": False, "message": "there is no job x here"}

    async def test_it_is_for_its_owner_alone(self, path: Path) -> None:
        mode = (await asyncio.to_thread(path.stat)).st_mode
        assert stat.S_IMODE(mode) == 0o600

    @pytest.mark.parametrize("uid", [pytest.param(0, id="root"), pytest.param(os.getuid() + 1, id="another")])
    async def test_root_may_speak_and_another_user_may_not(
        self, scene: Scene, path: Path, uid: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The mode keeps others out already; a socket handed on to them must not let them in either."""
        await held(scene)

        def says(_: object) -> int:
            return uid

        monkeypatch.setattr(module, "_uid_of", says)
        answer = await asyncio.to_thread(tell_daemon, path, Release(execution_id=ID))
        assert answer is not None
        assert answer["ok"] is (uid in (0, os.getuid()))
        assert (await scene.row()).state is (State.SUBMITTING if answer["ok"] else State.HELD)

    @pytest.mark.parametrize(
        "line",
        [
            b"\n",
            b"{}\n",
            b"[]\n",
            b'{"command": "drop"}\n',
            b'{"command": "fail", "execution_id": "a"}\n',
            b'{"command": "release", "execution_id": "a", "more": 1}\n',
            b"\xff\xfe\n",
            b'{"command": "release", "execution_id": "' + b"a" * 20_000 + b'"}\n',
            b"",
        ],
        ids=["empty", "no command", "a list", "unknown", "no reason", "more", "bytes", "long", "gone"],
    )
    async def test_nonsense_is_answered_or_dropped_and_harms_nobody(
        self, scene: Scene, path: Path, line: bytes
    ) -> None:
        await held(scene)

        def talk() -> bytes:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(10)
                with module._reachable(path) as address:
                    connection.connect(address)
                connection.sendall(line)
                connection.shutdown(socket.SHUT_WR)
                try:
                    return connection.makefile("rb").readline()
                except ConnectionResetError:
                    return b""

        said = await asyncio.to_thread(talk)
        assert said == b"" or b'"ok": false' in said
        assert (await scene.row()).state is State.HELD
        answer = await asyncio.to_thread(tell_daemon, path, Release(execution_id=ID))
        assert answer is not None
        assert answer["ok"]

    async def test_a_socket_left_behind_by_a_killed_daemon_is_replaced(self, scene: Scene, tmp_path: Path) -> None:
        path = tmp_path / "s"
        left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        left.bind(str(path))
        left.close()
        assert tell_daemon(path, Release(execution_id=ID)) is None
        listening = CommandSocket(path, operator(scene))
        await listening.start()
        assert await asyncio.to_thread(tell_daemon, path, Release(execution_id=ID)) is not None
        await listening.stop()

    def test_no_socket_means_no_daemon(self, tmp_path: Path) -> None:
        assert tell_daemon(tmp_path / "none", Release(execution_id=ID)) is None

    async def test_a_folder_that_cannot_be_used_is_named(self, scene: Scene, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"ledger\.path"):
            await CommandSocket(tmp_path / "missing" / "s", operator(scene)).start()
