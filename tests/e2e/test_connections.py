"""A daemon that is switched between a simulator and a device while it works, also through a kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import tomli_w
from typing_extensions import override

from qcompute.connections.definitions import FILE, Definition, Definitions
from qcompute.connections.settings import ConnectionSettings, StoreKind
from qcompute.connections.store import CredentialStore
from qcompute.local.demo_jobs import ASYMMETRIC
from qcompute.miner.job import State
from qcompute.protocol import ExecutionStatus
from tests.doubles.rest import RestDouble, table
from tests.doubles.vendor import VendorJob
from tests.scene import Scene, running_scene, until, until_true

MOCK: Final = "QCOMPUTE_PROVIDERS__MOCK__"
KEY, NEW_KEY = "first-key-of-the-lab", "second-key-of-the-lab"
SLOW: Final = {f"{MOCK}QUEUE_SECONDS": "600", f"{MOCK}FORETELL": "false"}


class Operator:
    """Types ``qcompute connections …`` beside the daemon."""

    def __init__(self, scene: Scene, folder: Path, **environment: str) -> None:
        self.scene = scene
        self._environment = {"PROVIDER": "mock"} | environment
        self._flags = ["--neuron.full_path", str(folder / "data"), "--connections.key_file", str(folder / "store.key")]
        self.said: list[str] = []

    async def tries(self, *arguments: str, value: str = "") -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "qcompute.console", "connections", *arguments, *self._flags),
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])} | self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(value.encode()), 60)
        assert process.returncode is not None
        self.said.append(out.decode())
        return process.returncode, out.decode()

    async def does(self, *arguments: str, value: str = "") -> str:
        code, out = await self.tries(*arguments, value=value)
        assert code == 0, out
        return out

    async def health(self) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.get(f"{self.scene.miner.operator_url}/health") as reply:
            return await reply.json()

    async def brought(self) -> str:
        job = self.scene.platform.jobs.add_job(ASYMMETRIC, 20)
        await self.scene.hand_over(1)
        return job

    async def at(self, job: str, state: State, account: str) -> None:
        async def there() -> bool:
            url = f"{self.scene.miner.operator_url}/jobs/{job}"
            async with aiohttp.ClientSession() as session, session.get(url) as reply:
                document = await reply.json()
                return (document["state"], document["provider"]) == (state.value, account)

        await until(there, seconds=40, what=f"{job} {state} at {account}", facts=self.scene.facts)

    async def open_accounts(self, names: set[str]) -> None:
        async def those() -> bool:
            return {one["name"] for one in (await self.health())["accounts"]} == names

        await until(those, seconds=40, what=f"accounts {names}", facts=self.scene.facts)

    async def add_lab(self, double: RestDouble, *more: str) -> str:
        settings = {name: value for name, value in table(double).items() if name != "token"}
        sets = [word for name, value in settings.items() for word in ("--set", f"{name}={json.dumps(value)}")]
        return await self.does("add", "lab", "rest", *sets, "--stdin", *more, value=f"{KEY}\n")


@asynccontextmanager
async def operated(folder: Path, provider: str = "mock", **environment: str) -> AsyncGenerator[Operator]:
    variables = environment | {"QCOMPUTE_CONNECTIONS__KEY_FILE": str(folder / "store.key")}
    async with running_scene(folder, provider=provider, environment=variables) as scene:
        operator = Operator(scene, folder, PROVIDER=provider, **environment)
        yield operator
        told = "".join([*operator.said, scene.miner.log.read_text()])
        assert KEY not in told
        assert NEW_KEY not in told


class Lab(RestDouble):
    """The lab's device; its answer is known beforehand, so no simulator has to be started for it."""

    @override
    async def execute(self, job: VendorJob) -> dict[str, int]:
        return {"010": job.shots}


def lab() -> Lab:
    return Lab(asynchronous=True, token=KEY)


async def test_new_jobs_go_to_the_new_connection_and_old_ones_stay(tmp_path: Path) -> None:
    """Through two switches and a kill -9: each job is paid once, at the account it was given to, and delivered."""
    with lab() as double:
        async with operated(tmp_path, **SLOW) as operator:
            scene = operator.scene
            await operator.add_lab(double)
            old = await operator.brought()
            await operator.at(old, State.WAITING, "mock")
            assert "new jobs go to lab now" in await operator.does("use", "lab")
            new = await operator.brought()
            await scene.collected(1)
            assert [one.execution_id for one in scene.validator.delivered] == [new]
            await operator.at(new, State.CLOSED, "lab")
            health = await operator.health()
            assert health["in_use"] == "lab"
            assert {one["name"]: one["takes_jobs"] for one in health["accounts"]} == {"mock": False, "lab": True}
            reports = scene.platform.jobs.backend_reports
            await until_true(lambda: reports[-1]["metadata"]["provider"] == "rest", what="a report of the lab's device")

            await scene.miner.kill()
            await scene.restart(**{f"{MOCK}QUEUE_SECONDS": "0"})
            newer = await operator.brought()
            await scene.collected(3)
            rows = {row.execution_id: row.status for row in scene.validator.delivered}
            assert rows == dict.fromkeys((old, new, newer), ExecutionStatus.COMPLETED)
            await operator.at(newer, State.CLOSED, "lab")
            assert (len(scene.vendor_submits()), double.created) == (1, 2)
            await operator.open_accounts({"lab"})

            assert "new jobs go to mock now" in await operator.does("use", "mock")
            last = await operator.brought()
            await scene.collected(4)
            await operator.at(last, State.CLOSED, "mock")
            await operator.open_accounts({"mock"})
            assert "with lab_token" in await operator.does("remove", "lab")


async def test_what_cannot_be_used_changes_nothing_and_a_new_key_needs_no_restart(tmp_path: Path) -> None:
    with lab() as double:
        async with operated(tmp_path) as operator:
            code, out = await operator.tries("use", "lab")
            assert (code, "there is no connection 'lab'" in out) == (2, True)
            await operator.add_lab(double)
            double.token = NEW_KEY
            code, out = await operator.tries("use", "lab")
            assert code == 1
            assert "the key is not accepted" in out
            assert (await operator.health())["in_use"] == "mock"
            assert "lab" not in {one["name"] for one in (await operator.health())["accounts"]}
            code, out = await operator.tries("rotate", "lab", "--stdin", value="neither\n")
            assert (code, "the key is not accepted" in out) == (1, True)
            assert "not open in the daemon" in await operator.does("rotate", "lab", "--stdin", value=f"{NEW_KEY}\n")
            await operator.does("use", "lab")
            code, out = await operator.tries("remove", "lab")
            assert (code, "new jobs go to lab" in out) == (1, True)

            pid = operator.scene.miner.process
            double.token = KEY
            assert "taken up by the daemon" in await operator.does("rotate", "lab", "--stdin", value=f"{KEY}\n")
            job = await operator.brought()
            await operator.scene.collected(1)
            await operator.at(job, State.CLOSED, "lab")
            assert operator.scene.miner.process is pid
            listed = json.loads(await operator.does("list", "--json"))
            assert listed["in_use"] == "lab"
            assert listed["connections"][0]["places"]["lab_token"].startswith("the encrypted file")
            stored = (tmp_path / "data" / "credentials.json").read_text()
            assert KEY not in stored
            assert KEY not in (tmp_path / "data" / "connections.toml").read_text()


async def test_the_key_of_the_settings_own_table_is_rotated_also_after_a_rekey(tmp_path: Path) -> None:
    """`rotate` knew connections alone; after `rekey` the daemon kept the old key until it was restarted.

    The new key file is moved to the old one's place, where the daemon reads it again.
    """
    key_file, next_file = tmp_path / "store.key", tmp_path / "next.key"
    with lab() as double:
        CredentialStore(ConnectionSettings(store=StoreKind.FILE, key_file=key_file), tmp_path / "data").put("qpu", KEY)
        settings = {"providers": {"rest": table(double) | {"token": "qpu"}}}
        (tmp_path / "miner.toml").write_text(tomli_w.dumps(settings))
        async with operated(tmp_path, "rest", QCOMPUTE_CONFIG=str(tmp_path / "miner.toml")) as operator:
            listed = json.loads(await operator.does("list", "--json"))["settings"]
            assert (listed["provider"], listed["credentials"]) == ("rest", {"token": "qpu"})
            assert listed["places"]["qpu"].startswith("the encrypted file")
            double.token = NEW_KEY
            rotated = await operator.does("rotate", "rest", "--stdin", value=f"{NEW_KEY}\n")
            assert "rest: taken up by the daemon" in rotated
            await operator.at(await operator.brought(), State.CLOSED, "rest")

            told = await operator.does("rekey", "--key-file", str(next_file))
            assert f"move the new key to {key_file}" in told
            double.token = KEY
            next_file.rename(key_file)
            assert "rest: taken up by the daemon" in await operator.does("rotate", "rest", "--stdin", value=f"{KEY}\n")
            await operator.at(await operator.brought(), State.CLOSED, "rest")
            assert double.created == 2


FLEET: Final = """
[[cluster.nodes]]
provider = "custom_rest"
connection = "lab"
name = "forge"

[[cluster.nodes]]
provider = "custom_rest"
name = "bench"
endpoints = ["%s"]
api_key = "bench_key"
"""


async def test_a_node_of_a_cluster_lives_by_its_connection(tmp_path: Path) -> None:
    """Its job is run with the connection's key, a new key is taken up without a restart, and nothing opens it twice.

    The key that another node's own table names was listed, and could not be rotated.
    """
    with lab() as double:
        kept = ConnectionSettings(store=StoreKind.FILE, key_file=tmp_path / "store.key")
        for name in ("lab_token", "bench_key"):
            CredentialStore(kept, tmp_path / "data").put(name, KEY)
        definition = Definition(provider="rest", settings=table(double) | {"token": "lab_token"})
        Definitions(tmp_path / "data" / FILE).add("lab", definition)
        (tmp_path / "fleet.toml").write_text(FLEET % double.url)
        fleet = {"QCOMPUTE_CONFIG": str(tmp_path / "fleet.toml"), "QCOMPUTE_ROUTING__POLICY": "order"}
        async with operated(tmp_path, "cluster", **fleet) as operator:
            first = await operator.brought()
            await operator.at(first, State.CLOSED, "forge")
            code, out = await operator.tries("use", "lab")
            assert (code, "lab is in the cluster already, as the account forge" in out) == (2, True)
            double.token = NEW_KEY
            assert "lab: taken up by the daemon" in await operator.does(
                "rotate", "lab", "--stdin", value=f"{NEW_KEY}\n"
            )
            code, out = await operator.tries("rotate", "bench", "--stdin", value="neither\n")
            assert (code, "the key is not accepted" in out) == (1, True)
            assert "bench: taken up by the daemon" in await operator.does(
                "rotate", "bench", "--stdin", value=f"{NEW_KEY}\n"
            )
            second = await operator.brought()
            await operator.at(second, State.CLOSED, "forge")
            accounts = (await operator.health())["accounts"]
            assert [(one["name"], one.get("offline_because")) for one in accounts] == [("forge", None), ("bench", None)]
            node, _ = json.loads(await operator.does("list", "--json"))["nodes"]
            assert (node["connection"], node["credentials"]) == ("lab", {"token": "lab_token"})
            assert node["places"]["lab_token"].startswith("the encrypted file")
