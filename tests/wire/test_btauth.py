"""A client of bittensor 11 signs its body too; the same route answers it in plain JSON."""

from __future__ import annotations

import json
import time
from typing import Any

import aiohttp
import pytest
from bittensor.sp_core import Keypair

from qcompute.chain.btauth import sign_btauth
from qcompute.protocol import COLLECT_ONLY, FIRST_CURSOR
from qcompute.units import Hotkey
from tests.wire.axon_process import Axon, closed_job, running_axon

KEYPAIR = Keypair.create_from_uri("//wire-validator")
BODY: dict[str, Any] = {
    "execution_id": COLLECT_ONLY,
    "shots": 0,
    "configuration_data": {},
    "input_data_url": "",
    "last_circuit": FIRST_CURSOR,
}


async def post(
    axon: Axon,
    body: dict[str, Any],
    *,
    sent: bytes | None = None,
    receiver: Hotkey | None = None,
    age_seconds: float = 0.0,
    headers: dict[str, str] | None = None,
    query: str = "",
) -> tuple[int, Any]:
    signed = json.dumps(body).encode()
    given = headers or sign_btauth(
        KEYPAIR,
        path="/CircuitSynapse",
        body=signed,
        receiver=receiver or axon.signer.hotkey,
        nonce_ns=time.time_ns() - int(age_seconds * 1e9),
    )
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{axon.url}/CircuitSynapse{query}", data=sent or signed, headers=given) as response,
    ):
        return response.status, await response.json()


async def test_a_job_and_a_collection() -> None:
    async with running_axon() as axon:
        await closed_job(axon, "done-1")
        job = BODY | {"execution_id": "btauth-1", "shots": 10, "input_data_url": "https://x.test/1"}
        status, answer = await post(axon, job)
        assert status == 200
        assert answer["success"] is True
        assert [row["execution_id"] for row in answer["finished_executions"]] == ["done-1"]
        assert await axon.has("btauth-1")


async def test_a_changed_body_is_noticed() -> None:
    async with running_axon() as axon:
        changed = json.dumps(BODY | {"execution_id": "mine-now", "shots": 1, "input_data_url": "https://x.test/1"})
        status, answer = await post(axon, BODY, sent=changed.encode())
        assert status == 401
        assert "signature" in answer["message"]
        assert not await axon.has("mine-now")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"receiver": Hotkey("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY")}, "different receiving hotkey"),
        ({"age_seconds": 31.0}, "older"),
        ({"age_seconds": -60.0}, "future"),
        ({"query": "?x=1"}, "signature"),
        ({"headers": {"X-Bittensor-Version": "1"}}, "missing"),
        ({"headers": {"X-Bittensor-Version": "2"}}, "unsupported"),
    ],
)
async def test_each_way_to_be_wrong(changes: dict[str, Any], words: str) -> None:
    async with running_axon() as axon:
        status, answer = await post(axon, BODY, **changes)
        assert status == 401
        assert words in answer["message"]


async def test_another_signature_scheme_is_not_accepted() -> None:
    async with running_axon() as axon:
        headers = sign_btauth(
            KEYPAIR, path="/CircuitSynapse", body=b"{}", receiver=axon.signer.hotkey, nonce_ns=time.time_ns()
        )
        status, answer = await post(axon, {}, sent=b"{}", headers=headers | {"X-Bittensor-Crypto": "ed25519"})
        assert status == 401
        assert "sr25519" in answer["message"]


async def test_a_nonce_is_good_for_one_request() -> None:
    async with running_axon() as axon:
        body = json.dumps(BODY).encode()
        headers = sign_btauth(
            KEYPAIR, path="/CircuitSynapse", body=body, receiver=axon.signer.hotkey, nonce_ns=time.time_ns()
        )
        assert (await post(axon, BODY, headers=headers))[0] == 200
        assert (await post(axon, BODY, headers=headers))[0] == 401


async def test_nonces_need_not_grow() -> None:
    async with running_axon() as axon:
        assert (await post(axon, BODY, age_seconds=1.0))[0] == 200
        assert (await post(axon, BODY, age_seconds=5.0))[0] == 200
