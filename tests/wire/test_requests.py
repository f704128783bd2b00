"""Captured requests verify, and each way to be wrong is refused in words a dendrite accepts."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from qcompute.chain.keys import signer_from_uri, verify_signature
from qcompute.protocol import COLLECT_ONLY, EMPTY_BODY_HASH, FIRST_CURSOR
from qcompute.units import ExecutionId, Hotkey
from tests.wire.axon_process import DATA, Axon, captured, running_axon

VALIDATOR = signer_from_uri("//wire-validator")
OTHER = signer_from_uri("//wire-stranger")

BODY: dict[str, Any] = {
    "execution_id": COLLECT_ONLY,
    "shots": 0,
    "configuration_data": {},
    "input_data_url": "",
    "last_circuit": FIRST_CURSOR,
}

_growing = iter(range(10**9))


def headers(axon: Axon, **changes: str | None) -> dict[str, str]:
    """A dendrite's headers, rightly signed unless changed; None leaves a header out. Changes are not signed."""
    nonce = changes.pop("nonce", None) or str(time.time_ns() + next(_growing))
    uuid = "5928d28c-e54b-11f1-b7a6-02fc00000001"
    body_hash = changes.pop("body_hash", None) or EMPTY_BODY_HASH
    receiver = changes.pop("receiver", None) or axon.signer.hotkey
    wrapped = changes.pop("wrapped", None)
    message = f"{nonce}.{VALIDATOR.hotkey}.{receiver}.{uuid}.{body_hash}".encode()
    signature = VALIDATOR.sign(b"<Bytes>" + message + b"</Bytes>" if wrapped else message)
    given: dict[str, str | None] = {
        "name": "CircuitSynapse",
        "timeout": "10.0",
        "bt_header_axon_hotkey": receiver,
        "bt_header_dendrite_version": "10005000",
        "bt_header_dendrite_nonce": nonce,
        "bt_header_dendrite_uuid": uuid,
        "bt_header_dendrite_hotkey": VALIDATOR.hotkey,
        "bt_header_dendrite_signature": "0x" + signature.hex(),
        "computed_body_hash": body_hash,
        "Content-Type": "application/json",
    }
    given |= changes
    return {name: value for name, value in given.items() if value is not None}


async def post(axon: Axon, sent: dict[str, str], body: object = BODY) -> tuple[int, Any, dict[str, str]]:
    """Status, document and headers of the answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{axon.url}/CircuitSynapse", data=data, headers=sent) as response,
    ):
        names = {name.decode(): value.decode() for name, value in response.raw_headers}
        return response.status, json.loads(await response.read()), names


@pytest.mark.parametrize("request_", captured(), ids=lambda entry: f"{entry['dendrite']}-{entry['case']}")
async def test_captured_requests_are_answered_as_a_dendrite_expects(request_: dict[str, Any]) -> None:
    sent = request_["headers"]
    for_us = request_["case"] != "wrong_axon_hotkey"
    ours = Hotkey(sent["bt_header_axon_hotkey"]) if for_us else signer_from_uri("//another").hotkey
    async with running_axon(our_hotkey=ours) as axon:
        caller = Hotkey(sent["bt_header_dendrite_hotkey"])
        axon.neurons[caller] = replace(axon.neurons[VALIDATOR.hotkey], hotkey=caller)
        axon.now_ns = int(sent["bt_header_dendrite_nonce"]) + 1_000_000_000
        status, answer, names = await post(axon, sent, request_["body"].encode())
        if not for_us:
            assert status == 401
            assert answer["message"].startswith("Not Verified with error: Signature mismatch")
            return
        assert status == 200
        assert answer["success"] is True
        assert answer["axon"]["status_code"] == 200
        assert names["bt_header_axon_status_code"] == "200"
        assert names["bt_header_axon_status_message"] == "Success"
        assert names["bt_header_dendrite_nonce"] == sent["bt_header_dendrite_nonce"]
        assert names["content-type"] == "application/json"
        assert names["bt_header_input_obj_shots"] == "MA=="
        execution_id = json.loads(request_["body"])["execution_id"]
        assert await axon.has(execution_id) is (execution_id != COLLECT_ONLY)


def test_signing_vectors_verify_plain_and_wrapped() -> None:
    vectors = json.loads((DATA / "signing_vectors.json").read_text())
    message, hotkey = vectors["message"].encode(), Hotkey(vectors["validator_ss58"])
    for name in ("signature", "signature_over_Bytes_wrapped_message"):
        signature = bytes.fromhex(vectors[name][2:])
        assert verify_signature(message, signature, hotkey)
        assert not verify_signature(message + b"0", signature, hotkey)
        assert not verify_signature(message, signature, Hotkey(vectors["miner_ss58"]))


async def test_a_signature_over_the_wrapped_message_is_accepted() -> None:
    async with running_axon() as axon:
        assert (await post(axon, headers(axon, wrapped="yes")))[0] == 200


def _late(seconds: float) -> str:
    return str(time.time_ns() + int(seconds * 1e9))


REFUSALS: list[tuple[str, dict[str, Any], int, str]] = [
    ("no nonce", {"bt_header_dendrite_nonce": None}, 401, "Missing Nonce"),
    ("empty nonce", {"bt_header_dendrite_nonce": ""}, 401, "Missing Nonce"),
    ("nonce not a number", {"bt_header_dendrite_nonce": "soon"}, 400, "nanosecond time"),
    ("nonce with a sign", {"bt_header_dendrite_nonce": "-1"}, 400, "nanosecond time"),
    ("nonce beyond 63 bits", {"bt_header_dendrite_nonce": str(2**63)}, 400, "nanosecond time"),
    ("no signature", {"bt_header_dendrite_signature": None}, 401, "Missing Signature"),
    ("empty signature", {"bt_header_dendrite_signature": ""}, 401, "Missing Signature"),
    ("signature without 0x", {"bt_header_dendrite_signature": "ab" * 64}, 401, "Invalid signature format"),
    ("signature not hex", {"bt_header_dendrite_signature": "0x" + "zz" * 64}, 401, "Invalid signature format"),
    ("signature too short", {"bt_header_dendrite_signature": "0xabcd"}, 401, "Invalid signature format"),
    ("another's signature", {"bt_header_dendrite_signature": "0x" + "11" * 64}, 401, "Signature mismatch"),
    ("another hotkey", {"bt_header_dendrite_hotkey": OTHER.hotkey}, 401, "Signature mismatch"),
    ("no hotkey", {"bt_header_dendrite_hotkey": None}, 401, "bt_header_dendrite_hotkey"),
    ("hotkey not ss58", {"bt_header_dendrite_hotkey": "nobody"}, 401, "Signature mismatch"),
    ("no uuid", {"bt_header_dendrite_uuid": None}, 401, "bt_header_dendrite_uuid"),
    ("another uuid", {"bt_header_dendrite_uuid": "x"}, 401, "Signature mismatch"),
    ("no body hash", {"computed_body_hash": None}, 401, "computed_body_hash"),
    ("another body hash", {"body_hash": "00" * 32}, 400, "computed_body_hash"),
    ("for another axon", {"receiver": OTHER.hotkey}, 401, "another axon"),
    ("another axon named, signed for us", {"bt_header_axon_hotkey": OTHER.hotkey}, 401, "another axon"),
    ("too old", {"nonce": lambda: _late(-31)}, 401, "Nonce is too old: acceptable delta is 30.00 seconds"),
    ("from 1970", {"nonce": lambda: "1"}, 401, "Nonce is too old"),
    ("old version does not widen", {"nonce": lambda: "1", "bt_header_dendrite_version": None}, 401, "too old"),
    ("long timeout does not widen", {"nonce": lambda: _late(-31), "timeout": "3600"}, 401, "too old"),
    ("from the future", {"nonce": lambda: _late(60)}, 401, "in the future"),
]


@pytest.mark.parametrize(("_", "changes", "status", "words"), REFUSALS, ids=[entry[0] for entry in REFUSALS])
async def test_each_reject_rule(_: str, changes: dict[str, Any], status: int, words: str) -> None:
    async with running_axon() as axon:
        given: dict[str, str | None] = {n: value() if callable(value) else value for n, value in changes.items()}  # pyright: ignore[reportAssignmentType]
        got, answer, names = await post(axon, headers(axon, **given))
        assert got == status
        assert words in answer["message"]
        assert names["bt_header_axon_status_code"] == str(status)
        assert axon.requests.seen == []


async def test_a_request_with_its_headers_in_any_case_is_read() -> None:
    async with running_axon() as axon:
        sent = {name.title(): value for name, value in headers(axon).items()}
        assert (await post(axon, sent))[0] == 200


async def test_the_dummy_headers_of_the_synapse_are_not_needed() -> None:
    """The reference axon answers 500 without bt_header_input_obj_*; they carry nothing."""
    async with running_axon() as axon:
        assert (await post(axon, headers(axon)))[0] == 200


async def test_a_replay_is_refused_and_stores_nothing() -> None:
    async with running_axon() as axon:
        sent = headers(axon)
        assert (await post(axon, sent))[0] == 200
        job = BODY | {"execution_id": "replayed", "shots": 1, "input_data_url": "https://x.test/1"}
        status, answer, _ = await post(axon, sent, job)
        assert status == 401
        assert answer["message"] == "Not Verified with error: Nonce is too old, a newer one was last processed"
        assert not await axon.has("replayed")


async def test_an_older_nonce_of_the_same_dendrite_is_refused() -> None:
    async with running_axon() as axon:
        older, newer = headers(axon), headers(axon)
        assert (await post(axon, newer))[0] == 200
        assert (await post(axon, older))[0] == 401


async def test_who_is_registered_cannot_be_probed() -> None:
    """The signature is checked before membership: a stranger's bad request is answered like a member's."""
    async with running_axon() as axon:
        member = await post(axon, headers(axon, bt_header_dendrite_signature="0x" + "11" * 64))
        stranger = await post(
            axon,
            headers(axon, bt_header_dendrite_signature="0x" + "11" * 64, bt_header_dendrite_hotkey=OTHER.hotkey),
        )
        assert member[:2] == stranger[:2]


@pytest.mark.parametrize(
    ("neuron", "reason"),
    [
        ({"validator_permit": False}, "Non-validator hotkey"),
        ({"stake": 10.0}, "Stake below 1000"),
        (None, "Unrecognized hotkey"),
    ],
)
async def test_who_may_not_call_gets_403(neuron: dict[str, Any] | None, reason: str) -> None:
    async with running_axon() as axon:
        known = axon.neurons.pop(VALIDATOR.hotkey)
        if neuron is not None:
            axon.neurons[VALIDATOR.hotkey] = replace(known, **neuron)
        status, answer, names = await post(axon, headers(axon))
        assert status == 403
        assert answer["message"] == f"Forbidden. Key is blacklisted: {reason}."
        assert names["bt_header_axon_status_message"] == answer["message"]


async def test_the_operators_lists_decide() -> None:
    async with running_axon(blacklist={"denied_hotkeys": [VALIDATOR.hotkey]}) as axon:
        assert (await post(axon, headers(axon)))[0] == 403
    async with running_axon(blacklist={"allowed_hotkeys": [VALIDATOR.hotkey]}) as axon:
        axon.neurons.clear()
        assert (await post(axon, headers(axon)))[0] == 200
    async with running_axon(blacklist={"allow_non_registered": True}) as axon:
        axon.neurons.clear()
        assert (await post(axon, headers(axon)))[0] == 200


async def test_an_unknown_metagraph_is_not_an_open_door() -> None:
    async with running_axon(blacklist={"allow_non_registered": True}) as axon:
        axon.known = False
        assert (await post(axon, headers(axon)))[0] == 503


async def test_above_the_rate_a_validator_is_told_to_slow_down() -> None:
    async with running_axon(settings={"requests_per_second": 0.001, "request_burst": 3}) as axon:
        assert [(await post(axon, headers(axon)))[0] for _ in range(4)] == [200, 200, 200, 429]


@pytest.mark.parametrize(
    "body",
    [b"not json", b"[]", b"", b'{"execution_id": "x"}', json.dumps(BODY | {"shots": None}).encode(), b"\xff\xfe"],
)
async def test_a_body_that_cannot_be_read_is_a_4xx(body: bytes) -> None:
    async with running_axon() as axon:
        status, answer, _ = await post(axon, headers(axon), body)
        assert status == 422
        assert answer["message"].startswith("Bad request: ")


async def test_unknown_fields_are_ignored_and_identity_in_the_body_is_not_believed() -> None:
    async with running_axon() as axon:
        body = BODY | {"dendrite": {"hotkey": OTHER.hotkey}, "shots": 5, "input_data_url": "https://x.test/1"}
        status, answer, _ = await post(axon, headers(axon), body | {"execution_id": "job-1", "later": True})
        assert status == 200
        assert answer["dendrite"]["hotkey"] == VALIDATOR.hotkey
        job = await axon.ledger.get(ExecutionId("job-1"))
        assert job is not None
        assert job.validator_hotkey == VALIDATOR.hotkey


async def test_a_body_above_the_limit_is_refused() -> None:
    async with running_axon(settings={"max_body_bytes": 4096}) as axon:
        big = BODY | {"configuration_data": {"x": "y" * 10_000}}
        assert (await post(axon, headers(axon), big))[0] == 413


WRONG_CALLS = [
    ("GET", "/CircuitSynapse", 405),
    ("PUT", "/CircuitSynapse", 405),
    ("TRACE", "/CircuitSynapse", 405),
    ("DELETE", "/health", 405),
    ("POST", "/Nope", 404),
    ("POST", "/Synapse", 404),
    ("GET", "/", 404),
    ("GET", "/docs", 404),
    ("GET", "/openapi.json", 404),
    ("POST", "/CircuitSynapse/", 404),
]


async def test_other_paths_and_methods() -> None:
    async with running_axon() as axon, aiohttp.ClientSession() as session:
        for method, path, status in WRONG_CALLS:
            async with session.request(method, axon.url + path) as response:
                assert response.status == status, (method, path)
                assert ("Allow" in response.headers) is (status == 405), (method, path)
                assert "message" in await response.json()


async def test_health_shows_no_secret() -> None:
    async with (
        running_axon() as axon,
        aiohttp.ClientSession() as session,
        session.get(f"{axon.url}/health") as response,
    ):
        assert response.status == 200
        assert set(await response.json()) == {"status", "version", "accepting_jobs"}
