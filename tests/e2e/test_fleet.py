"""The real daemon with several accounts: who runs a job is kept over a kill, paid once and told in the receipt."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from qcompute.miner.job import State
from qcompute.receipts import verify_receipt
from qcompute.receipts.document import Receipt
from qcompute.units import ExecutionId
from tests.e2e.mock_nodes import REFUSAL
from tests.scene import Scene, running_scene

_ROOT: Final = Path(__file__).resolve().parents[2]
_NODES: Final = "tests.e2e.mock_nodes:MockNodes"


class FleetOf:
    """A scene whose miner has the accounts ``first`` and ``second``, a QPU each, and ``box``, a simulator."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene = scene
        self._folder = folder

    def switch(self, account: str, word: str) -> None:
        (self._folder / account / word).touch()

    def paid(self) -> dict[str, int]:
        """Submits that reached each vendor."""
        counts: dict[str, int] = {}
        for name in ("first", "second", "box"):
            with sqlite3.connect(self._folder / name / "vendor.sqlite3") as cloud:
                (counts[name],) = cloud.execute("SELECT count(*) FROM submits").fetchone()
        return counts

    async def brought(self, **configuration: Any) -> ExecutionId:
        """A job of the given wishes, in the miner's ledger."""
        job = self.scene.platform.jobs.add_job(_BELL, 50, configuration)
        await self.scene.hand_over(1)
        return job

    async def of(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(self.scene.miner.operator_url + path) as response:
            assert response.status == 200, path
            return await response.json()

    async def receipt(self, job: ExecutionId) -> Receipt:
        url = f"{self.scene.miner.operator_url}/receipts/{job}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return verify_receipt(await response.text())


_BELL: Final = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q->c;'


def fleet_file(folder: Path, **routing: str | int | list[str]) -> Path:
    """The fleet as an operator writes it."""
    lines = ["[routing]", *(f"{name} = {_toml(value)}" for name, value in routing.items())]
    for name, kind in (("first", "qpu"), ("second", "qpu"), ("box", "sim")):
        (folder / name).mkdir()
        lines += ["[[cluster.nodes]]", f'provider = "{_NODES}"', f'name = "{name}"', f'kind = "{kind}"']
        lines += [f'folder = "{folder / name}"']
    file = folder / "fleet.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def _toml(value: str | int | list[str]) -> str:
    return json.dumps(value)  # texts, whole numbers and lists of texts look the same in both


@asynccontextmanager
async def fleet(folder: Path, *, off: Sequence[str] = (), **routing: str | int | list[str]) -> AsyncGenerator[FleetOf]:
    """The daemon over its fleet; accounts that are ``off`` are so from the start: it asks them only now and then."""
    environment = {"QCOMPUTE_CONFIG": str(fleet_file(folder, **routing)), "PYTHONPATH": str(_ROOT)}
    for name in off:
        (folder / name / "off").touch()
    async with running_scene(folder, provider="cluster", environment=environment) as scene:
        yield FleetOf(scene, folder)


async def test_a_job_the_first_account_refuses_is_run_by_the_second_and_paid_once(tmp_path: Path) -> None:
    async with fleet(tmp_path) as miner:
        miner.switch("first", "refuse")
        job = await miner.brought()
        await miner.scene.collected(1)
        assert miner.paid() == {"first": 0, "second": 1, "box": 0}
        document = await miner.of(f"/jobs/{job}")
        assert document["provider"] == "second"
        assert document["placement"]["left"] == [REFUSAL]
        assert [one["account"] for one in document["placement"]["candidates"]] == ["first", "second"]
        receipt = await miner.receipt(job)
        assert receipt.executed_on is not None
        assert (receipt.executed_on.account, receipt.executed_on.device_type) == ("second", "QPU")
        assert receipt.fallback_from is None


async def test_with_every_qpu_refusing_a_simulator_does_not_answer(tmp_path: Path) -> None:
    async with fleet(tmp_path) as miner:
        for name in ("first", "second"):
            miner.switch(name, "refuse")
        job = await miner.brought()
        await miner.scene.collected(1)
        assert miner.paid() == {"first": 0, "second": 0, "box": 0}
        document = await miner.of(f"/jobs/{job}")
        assert (document["verdict"], document["error"]) == ("refused", REFUSAL)
        assert document["placement"]["rejections"] == [
            {"account": "box", "device_id": "mock_sim_1", "reason": "it is a SIMULATOR, and the job asks for a QPU"}
        ]


async def test_a_declared_stand_in_answers_when_the_wait_is_over_and_the_receipt_says_so(tmp_path: Path) -> None:
    off = ("first", "second")
    async with fleet(tmp_path, off=off, fallback=["box"], max_unavailable_seconds=2) as miner:
        job = await miner.brought(node="first")
        other = await miner.brought()
        await miner.scene.collected(2, seconds=110)
        receipt = await miner.receipt(other)
        assert receipt.executed_on is not None
        assert (receipt.executed_on.account, receipt.executed_on.device_type) == ("box", "SIMULATOR")
        assert receipt.fallback_from == "a QPU"
        pinned = await miner.receipt(job)
        assert pinned.executed_on is not None
        assert pinned.executed_on.account == "first", "a pin is not answered by a stand-in"
        assert miner.paid() == {"first": 1, "second": 0, "box": 1}


async def test_jobs_are_spread_and_stay_where_they_were_put_over_a_kill(tmp_path: Path) -> None:
    async with fleet(tmp_path, policy="round_robin") as miner:
        jobs = [await miner.brought() for _ in range(8)]
        await miner.scene.until_in(State.READY, 0)
        await miner.scene.miner.kill()
        await miner.scene.restart()
        await miner.scene.collected(8)
        paid = miner.paid()
        assert paid["first"] + paid["second"] == 8
        assert paid["box"] == 0
        receipts = [await miner.receipt(job) for job in jobs]
        at = [receipt.executed_on.account for receipt in receipts if receipt.executed_on is not None]
        assert {name: at.count(name) for name in ("first", "second")} == {
            name: paid[name] for name in ("first", "second")
        }


async def test_a_job_gets_the_account_it_names_and_one_nobody_has_is_refused(tmp_path: Path) -> None:
    async with fleet(tmp_path) as miner:
        named, nobody = await miner.brought(node="second"), await miner.brought(node="third")
        await miner.scene.collected(2)
        assert miner.paid() == {"first": 0, "second": 1, "box": 0}
        assert (await miner.of(f"/jobs/{named}"))["provider"] == "second"
        refused = await miner.of(f"/jobs/{nobody}")
        assert (refused["verdict"], refused["error_code"]) == ("refused", "no_device")
        assert "first/mock_qpu_1, second/mock_qpu_1, box/mock_sim_1" in refused["error"]
