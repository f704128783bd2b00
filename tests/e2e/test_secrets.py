"""One full run of the daemon with everything going wrong once and all its libraries talking: no secret comes out."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from qcompute.connections.credentials import variable_of
from qcompute.local.demo_jobs import ASYMMETRIC, GARBAGE
from qcompute.local.dendrite import signed_headers
from qcompute.local.miner_process import MinerProcess
from qcompute.local.service import Fault, FaultKind
from qcompute.miner.parts import build
from qcompute.miner.providers.base import Verb
from qcompute.miner.settings_load import load_from
from qcompute.protocol import ExecutionStatus
from tests.doubles.ionq import IonqDouble
from tests.doubles.kits import kit
from tests.e2e.secrets_scene import Secrets, children_of, command_line_of, files_of, forms, reprs_of
from tests.scene import Scene, running_scene, until_true

KIT: Final = kit("ionq")
SHOTS: Final = 100
OPTIONS: Final = {"device": KIT.device}
JOBS: Final = 6
KINDS: Final = {
    "API key",
    "token",
    "claim for a token",
    "wallet",
    "key of the ledger",
    "signature of a circuit's URL",
    "signature of an upload URL",
    "signature of a request",
}


async def test_no_secret_of_a_full_run_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = f"sk-{secrets.token_urlsafe(24)}"
    known = Secrets()
    known.add("API key", key)
    places: dict[str, bytes] = {}
    with IonqDouble(key) as double:
        environment = {
            variable_of("ionq"): key,
            "QCOMPUTE_CONFIG": str(KIT.settings_file(double, tmp_path)),
            "QCOMPUTE_LOGGING__LEVEL": "trace",
        }
        async with running_scene(tmp_path, provider="ionq", environment=environment) as scene:
            known.watch(scene, monkeypatch)
            await scene.validator.log_in()
            await scene.miner.stop()
            everything_fails_once(scene, double, key)
            await scene.restart()
            ids = bring_trouble(scene, key)
            await scene.hand_over(JOBS)
            await until_true(lambda: bool(children_of(pid_of(scene.miner))), what="a sandboxed child", seconds=30)
            places |= children_of(pid_of(scene.miner)) | command_line_of(pid_of(scene.miner))
            places |= {"ledger under way": b"".join(files_of(scene).values())}
            await scene.collected(JOBS)
            places |= await pages_of(scene, ids)
            places |= await refusals_of(scene)
            await until_true(lambda: bool(scene.platform.telemetry.points), what="telemetry after its failures")
            places |= told_to_the_platform(scene) | files_of(scene)
            await scene.miner.stop()
            places |= {"check-config": await checked_config(scene.miner)}
            places |= await parts_of(scene.miner, monkeypatch)
            places |= files_of(scene)
            known.collect(scene)
        words = {row.status for row in scene.validator.delivered}
        assert words == {ExecutionStatus.COMPLETED, ExecutionStatus.FAILED}, "the run must have both"
    assert set(known.by_kind) == KINDS
    assert all(known.by_kind.values()), "a kind of which nothing was used shows nothing"
    looked_at_the_right_places(places, ids[0])
    assert known.found_in(places) == []
    planted_is_found(known, places)


def everything_fails_once(scene: Scene, double: IonqDouble, key: str) -> None:
    """Vendor and platform refuse, fail and answer nonsense, and quote what they were sent while they do."""
    quoting = json.dumps({"error": "Unauthorized", "message": f"invalid key {key}"}).encode()
    nonsense = f'{{"id": ["{key}"], "status": 7'.encode()
    for verb in (Verb.DESCRIBE, Verb.POLL, Verb.RECEIPT):
        double.fault(KIT.calls[verb], FaultKind.STATUS, status=401, body=quoting)
        double.fault(KIT.calls[verb], FaultKind.STATUS, status=200, body=nonsense)
        double.fault(KIT.calls[verb], FaultKind.DROP_AFTER)
    double.fault(KIT.calls[Verb.SUBMIT], FaultKind.STATUS, status=400, body=quoting)
    platform = scene.platform
    for service, calls in (
        (platform.tokens, "GET"),
        (platform.jobs, "POST|PATCH /v1/backends"),
        (platform.store, "PUT"),
    ):
        for status in (401, 500, 200):
            service.faults.append(Fault(calls, FaultKind.STATUS, status=status, body=nonsense, times=1))


def bring_trouble(scene: Scene, key: str) -> list[str]:
    """Jobs that go well, and jobs whose circuit is refused by the host, the screen and the downloader."""
    jobs, circuits = scene.platform.jobs, scene.platform.circuits
    ids = [jobs.add_job(f"{ASYMMETRIC}// {number}\n", SHOTS, OPTIONS) for number in range(3)]
    garbage, forbidden, moved = (jobs.add_job(text, SHOTS, OPTIONS) for text in (GARBAGE, ASYMMETRIC, ASYMMETRIC))
    for execution_id, status in ((forbidden, 403), (moved, 302)):
        url = jobs.executions[execution_id].input_data_url
        headers = {"Location": url.replace("127.0.0.1", "169.254.169.254")} if status == 302 else {}
        body = f"not with {url} and not with {key}".encode()
        circuits.faults.append(
            Fault(execution_id, FaultKind.STATUS, status=status, headers=headers, body=body, times=9)
        )
    return [*ids, garbage, forbidden, moved]


def pid_of(miner: MinerProcess) -> int:
    """The process id of a miner that runs."""
    assert miner.process is not None
    return miner.process.pid


async def pages_of(scene: Scene, ids: list[str]) -> dict[str, bytes]:
    """Every page of the operator port and of the axon."""
    own, axon = scene.miner.operator_url, f"http://127.0.0.1:{scene.miner.axon_port}"
    urls = [f"{own}/health", f"{own}/nothing", f"{axon}/health", f"{axon}/nothing", f"{axon}/CircuitSynapse"]
    urls += [f"{own}/{page}/{one}" for page in ("jobs", "receipts") for one in [*ids, "none"]]
    async with aiohttp.ClientSession() as session:
        return {url: await _whole(await session.get(url)) for url in urls}


async def refusals_of(scene: Scene) -> dict[str, bytes]:
    """What the axon answers to requests that are replayed, changed, or not signed; headers included."""
    url = f"http://127.0.0.1:{scene.miner.axon_port}/CircuitSynapse"
    signed = signed_headers(
        scene.validator._dendrite._signer,
        uuid="one",
        host="127.0.0.1",
        port=scene.miner.axon_port,
        axon_hotkey=scene.miner.signer.hotkey,
    )
    bad = signed | {"bt_header_dendrite_signature": signed["bt_header_dendrite_signature"][:-2] + "00"}
    body: dict[str, object] = {
        "execution_id": "collect-only",
        "input_data_url": "",
        "shots": "many",
        "configuration_data": {},
    }
    answers: dict[str, bytes] = {}
    async with aiohttp.ClientSession() as session:
        for name, headers in (("first", signed), ("replay", signed), ("changed", bad), ("bare", {})):
            answers[f"axon: {name}"] = await _whole(await session.post(url, json=body, headers=headers))
    return answers


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    return str(dict(response.headers)).encode() + await response.read()


def told_to_the_platform(scene: Scene) -> dict[str, bytes]:
    """Telemetry, reports, results, messages: what others keep of us."""
    platform = scene.platform
    executions = [(one.message, one.execution_data, one.history) for one in platform.jobs.executions.values()]
    return {
        "telemetry": "".join(point.model_dump_json() for point in platform.telemetry.points).encode(),
        "reports": json.dumps(platform.jobs.backend_reports).encode(),
        "executions": repr(executions).encode(),
        "results": repr(platform.store.objects).encode(),
        "replies": repr(scene.validator.answers).encode(),
    }


async def checked_config(miner: MinerProcess) -> bytes:
    """What ``--check-config`` prints."""
    process = await asyncio.create_subprocess_exec(
        *miner.command(),
        "--check-config",
        env=miner.full_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return out


async def parts_of(miner: MinerProcess, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The daemon's settings and parts, made here from the same settings, as ``repr`` shows them."""
    environment = miner.full_environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    loaded = load_from(miner.command()[2:], environment, miner.folder)
    assert loaded.settings is not None, loaded.problems
    parts = await build(loaded.settings)
    try:
        return reprs_of(loaded, loaded.settings, parts)
    finally:
        await parts.close()


def looked_at_the_right_places(places: dict[str, bytes], execution_id: str) -> None:
    """A search in empty places finds nothing, so each must hold what it is there for."""
    marks = {
        "miner.log": execution_id,
        "data/ledger.sqlite3": execution_id,
        "telemetry": "miner_hotkey",
        "replies": execution_id,
        "executions": "Completed",
        "reports": KIT.device or "",
        "check-config": "logging.level",
        "repr of settings and parts": "Settings(",
        "cmdline of a child": sys.executable,
        "environ of a child": "=",
        "ledger under way": execution_id,
    }
    lacking = [place for place, mark in marks.items() if mark.encode() not in places[place]]
    assert lacking == []
    assert b"DEBUG" in places["miner.log"], "the libraries must have talked"


def planted_is_found(known: Secrets, places: dict[str, bytes]) -> None:
    """The search finds one secret of each kind, in each form, in the middle of a place where none was found."""
    for kind, values in known.by_kind.items():
        for form in forms(next(iter(values))):
            middle = len(places["miner.log"]) // 2
            planted = places["miner.log"][:middle] + form + places["miner.log"][middle:]
            assert f"{kind} in log" in known.found_in({"log": planted})
