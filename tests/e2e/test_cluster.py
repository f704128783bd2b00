"""``PROVIDER=cluster`` from the outside: a simulator, a machine of the operator's own and an endpoint, as one miner."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from qcompute.local.demo_jobs import ASYMMETRIC
from qcompute.miner.job import State
from qcompute.protocol import ExecutionStatus
from qcompute.receipts import verify_receipt
from qcompute.units import ExecutionId
from tests.doubles.rest import RestDouble
from tests.scene import Scene, running_scene, until, until_true

_ROOT: Final = Path(__file__).resolve().parents[2]

TABLES: Final = """
[[cluster.nodes]]
provider = "local_cpu"
name = "desk"
max_qubits = 10
tags = ["quiet"]

[[cluster.nodes]]
provider = "tests.e2e.bench_nodes:BenchNodes"
name = "bench"
folder = "{folder}"
[cluster.nodes.settings]
wall_seconds = 100.0
prices = {{ per_task = "0.25" }}
[cluster.nodes.budget]
per_day = 2

[[cluster.nodes]]
provider = "custom_rest"
name = "forge"
endpoints = ["{url}"]
[cluster.nodes.settings]
keeps_jobs = true
health_seconds = 0.5
prices = {{ per_task = "1.50", currency = "EUR" }}
[cluster.nodes.budget]
per_day = 30
currency = "EUR"
"""

PYTHON: Final = """
from decimal import Decimal

from qcompute.cluster import ClusterBuilder
from qcompute.miner.limits import BudgetSettings


def cluster():
    return (
        ClusterBuilder()
        .add("local_cpu", name="desk", max_qubits=10, tags=["quiet"])
        .add(
            "tests.e2e.bench_nodes:BenchNodes",
            name="bench",
            folder="{folder}",
            settings={{"wall_seconds": 100.0, "prices": {{"per_task": "0.25"}}}},
            budget=BudgetSettings(per_day=Decimal(2)),
        )
        .add(
            "custom_rest",
            name="forge",
            endpoints=["{url}"],
            settings={{
                "keeps_jobs": True,
                "health_seconds": 0.5,
                "prices": {{"per_task": "1.50", "currency": "EUR"}},
            }},
            budget=BudgetSettings(per_day=Decimal(30), currency="EUR"),
        )
    )
"""


class Forge(RestDouble):
    """An endpoint without a key, that can be switched off and on again at one address."""

    def __init__(self) -> None:
        super().__init__(asynchronous=True, token=None)

    def switch_off(self) -> None:
        self.call(self.stop())

    def switch_on(self) -> None:
        self.call(self.start())


@pytest.fixture
def forge() -> Generator[Forge]:
    with Forge() as endpoint:
        yield endpoint


class Workshop:
    """A scene whose miner has the accounts ``desk``, ``bench`` and ``forge``."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene = scene
        self.folder = folder

    async def brought(self, shots: int, **configuration: Any) -> ExecutionId:
        """A job of the given wishes, in the miner's ledger."""
        job = self.scene.platform.jobs.add_job(ASYMMETRIC, shots, configuration)
        await self.scene.hand_over(1)
        return job

    async def of(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(self.scene.miner.operator_url + path) as response:
            assert response.status == 200, path
            return await response.json()

    async def account(self, name: str) -> dict[str, Any]:
        """What /health says of an account."""
        return next(one for one in (await self.of("/health"))["accounts"] if one["name"] == name)

    async def committed(self) -> dict[str, tuple[str, str]]:
        """What is committed of each account's day, and the currency."""
        budgets = (await self.of("/health"))["budgets"]
        return {one["account"]: (one["periods"]["day"]["committed"], one["currency"]) for one in budgets}

    async def until_offline(self, name: str, *, offline: bool) -> None:
        async def so() -> bool:
            return ((await self.account(name))["offline_because"] is not None) is offline

        await until(so, seconds=60, what=f"{name} offline: {offline}", facts=self.scene.facts)

    async def until_job(self, job: ExecutionId, **values: Any) -> dict[str, Any]:
        """Wait until a job's document has these values, and return it."""

        async def so() -> bool:
            return values.items() <= (await self.of(f"/jobs/{job}")).items()

        await until(so, seconds=60, what=f"{job} with {values}", facts=self.scene.facts)
        return await self.of(f"/jobs/{job}")

    async def ran_on(self, job: ExecutionId) -> tuple[str | None, ...]:
        """Account, device and its type in the job's receipt, which is checked."""
        url = f"{self.scene.miner.operator_url}/receipts/{job}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            receipt = verify_receipt(await response.text())
        assert receipt.executed_on is not None
        assert receipt.provider == receipt.executed_on.account
        assert receipt.fallback_from is None
        return (receipt.executed_on.account, receipt.executed_on.device_id, receipt.executed_on.device_type)

    def counts(self, job: ExecutionId) -> Any:
        """What the validator's user was given."""
        row = next(row for row in self.scene.validator.delivered if row.execution_id == job)
        assert row.status == ExecutionStatus.COMPLETED, row.errorMessage
        return self.scene.platform.store.objects[row.upload_data_id or ""]

    def runs(self) -> list[int]:
        """Shots of the runs of the bench, in order."""
        file = self.folder / "runs"
        return [int(line) for line in file.read_text().split()] if file.exists() else []


@asynccontextmanager
async def workshop(
    folder: Path, url: str, *, written: str = "tables", switches: tuple[str, ...] = (), **more: str
) -> AsyncGenerator[Workshop]:
    """A workshop with the fleet as tables or as a builder; ``switches`` are in the bench's folder at the start."""
    names = {"folder": folder / "bench", "url": url}
    (folder / "bench").mkdir()
    for switch in switches:
        (folder / "bench" / switch).touch()
    config, paths = folder / "fleet.toml", [str(_ROOT)]
    if written == "tables":
        config.write_text(TABLES.format(**names))
    else:
        (folder / "workshop_fleet.py").write_text(PYTHON.format(**names))
        config.write_text('[cluster]\nbuilder = "workshop_fleet:cluster"\n')
        paths.append(str(folder))
    environment = {"QCOMPUTE_CONFIG": str(config), "PYTHONPATH": ":".join(paths)} | more
    async with running_scene(folder, provider="cluster", environment=environment) as scene:
        yield Workshop(scene, folder / "bench")


async def test_jobs_run_where_they_are_pinned_and_an_endpoint_that_was_down_comes_back(
    tmp_path: Path, forge: Forge
) -> None:
    """Of three accounts one is down at the start: its job waits for it, the others' jobs do not.

    Here the fleet is written with the builder, and in the tests below as tables.
    """
    forge.switch_off()
    async with workshop(tmp_path, forge.url, written="builder") as shop:
        by_device = await shop.brought(101, device="aer_automatic")
        by_tag = await shop.brought(102, tags=["bench"])
        await shop.scene.collected(2)
        for_forge = await shop.brought(104, node="forge")
        by_both = await shop.brought(103, device="desk/aer_automatic", tags=["quiet"])
        await shop.scene.collected(3)
        assert [shop.counts(job) for job in (by_device, by_tag, by_both)] == [{"010": n} for n in (101, 102, 103)]
        await shop.until_offline("forge", offline=True)
        waiting = await shop.until_job(for_forge, state=State.READY, error_code="unavailable")
        told = await shop.account("forge")
        assert told["vendor"] == "rest"
        assert "no device is available" in told["offline_because"]
        assert "no device is available" in waiting["error"]
        assert (await shop.account("desk"))["offline_because"] is None
        forge.switch_on()
        await shop.until_offline("forge", offline=False)
        await shop.scene.collected(4)
        assert shop.counts(for_forge) == {"010": 104}
        assert forge.created == 1
        assert shop.runs() == [102]
        assert await shop.ran_on(by_device) == await shop.ran_on(by_both) == ("desk", "aer_automatic", "SIMULATOR")
        assert await shop.ran_on(by_tag) == ("bench", "bench-1", "SIMULATOR")
        assert await shop.ran_on(for_forge) == ("forge", "rest_1", "SIMULATOR")
        committed = await shop.committed()
        assert (committed["bench"], committed["forge"]) == (("0.25", "USD"), ("1.50", "EUR"))
        assert [one["devices"] for one in (await shop.of("/health"))["accounts"]] == [
            ["aer_automatic"],
            ["bench-1"],
            ["rest_1"],
        ]
        await told_of_their_devices_only(shop.scene)


async def told_of_their_devices_only(scene: Scene) -> None:
    """The job server used to hear of all devices of an adapter, those that are in no node too."""

    def named() -> set[str]:
        reports = scene.platform.jobs.backend_reports
        return {one["device_id"] for one in reports[-1]["metadata"]["devices"]} if reports else set()

    await until_true(lambda: named() == {"aer_automatic", "bench-1", "rest_1"}, what="a report of three devices")


async def test_a_kill_in_the_middle_loses_nothing_and_runs_nothing_of_the_bench_twice(
    tmp_path: Path, forge: Forge
) -> None:
    """What was running on a machine of our own is held, because nobody knows whether it ran."""
    patience = {"QCOMPUTE_MINER__UNKNOWN_STATUS_DEADLINE_SECONDS": "1"}
    async with workshop(tmp_path, forge.url, switches=("stop",), **patience) as shop:
        with forge.hold():
            running = await shop.brought(201, node="bench")
            await until_true(lambda: shop.runs() == [201], what="a run on the bench")
            queued = await shop.brought(202, node="bench")
            for_forge = await shop.brought(203, node="forge")
            await until_true(lambda: forge.created == 1, what="a job at the endpoint")
            for_desk = await shop.brought(204, device="aer_automatic")
            await shop.scene.miner.kill()
            (shop.folder / "stop").unlink()
            await shop.scene.restart()
        await shop.scene.collected(3)
        assert [shop.counts(job) for job in (queued, for_forge, for_desk)] == [{"010": n} for n in (202, 203, 204)]
        held = await shop.until_job(running, state=State.HELD)
        assert "it may have run" in held["error"]
        assert shop.runs() == [201, 202]
        assert forge.created == 1
        assert await shop.ran_on(for_forge) == ("forge", "rest_1", "SIMULATOR")
        committed = await shop.committed()
        assert committed["bench"] == ("0.50", "USD"), "what is held stays reserved"


async def test_a_machine_that_is_unwell_is_offline_and_the_job_server_hears_it(tmp_path: Path, forge: Forge) -> None:
    """Its adapter says nothing of its health, so the report of devices used to call it available."""
    async with workshop(tmp_path, forge.url, switches=("unwell",)) as shop:
        await shop.until_offline("bench", offline=True)

        def told() -> list[str]:
            reports = shop.scene.platform.jobs.backend_reports
            devices: list[dict[str, Any]] = reports[-1]["metadata"]["devices"] if reports else []
            return [one["availability"] for one in devices if one["device_id"] == "bench-1"]

        await until_true(lambda: told() == ["OFFLINE"], what="a report that says OFFLINE")
        (shop.folder / "unwell").unlink()
        await until_true(lambda: told() == ["ONLINE"], what="a report that says so no more")
        assert shop.runs() == []
