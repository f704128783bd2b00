"""Requests that claim to be signed, in both schemes: stale, replayed, forged, for somebody else, by nobody of note."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Final

from bittensor.sp_core import CRYPTO_ED25519, Keypair

from tests.hostile.network_attacks import (
    Answer,
    Attack,
    Case,
    btauth_headers,
    dendrite_headers,
    document,
    head,
    in_turn,
    makes,
    post,
    talk,
)
from tests.hostile.network_victim import HONEST, JOB, NO_PERMIT, POOR, SECOND, STRANGER, Victim

Headers = Callable[[Victim], dict[str, str]]
_JOB: Final = json.dumps(JOB).encode()
_HOUR: Final = 3600.0
_YEAR: Final = 365.25 * 86400
REPLAYED: Final = "newer one was last processed"
MISMATCH: Final = "Signature mismatch"
FORMAT: Final = "Invalid signature format"
NO_TIME: Final = "not a nanosecond time"


def _late(seconds: float) -> int:
    return time.time_ns() + int(seconds * 1e9)


def brings_job(headers: Headers) -> Attack:
    """One request with a job that would be taken if its headers were right."""

    def make(victim: Victim) -> Iterable[bytes]:
        return [post(headers(victim), _JOB)]

    return makes(make)


def dendrite(**values: object) -> Attack:
    """A job under a dendrite's headers made with these values, see `dendrite_headers`; callables are called then."""

    def headers(victim: Victim) -> dict[str, str]:
        given = {name: value() if callable(value) else value for name, value in values.items()}
        return dendrite_headers(victim, **given)  # pyright: ignore[reportArgumentType] - a case's own values

    return brings_job(headers)


def changed(**changes: str | None) -> Attack:
    """A job whose headers were changed after signing; ``hotkey`` is ``bt_header_dendrite_hotkey`` and so on."""
    long = {f"bt_header_dendrite_{name}" if name in _SHORT else name: value for name, value in changes.items()}
    return brings_job(lambda victim: dendrite_headers(victim, changes=long))


_SHORT: Final = ("hotkey", "nonce", "signature", "uuid", "version")


def btauth(**values: object) -> Attack:
    """A job under ``btauth/1`` headers made with these values, see `btauth_headers`."""

    def headers(victim: Victim) -> dict[str, str]:
        given = {name: value() if callable(value) else value for name, value in values.items()}
        return btauth_headers(victim, _JOB, **given)  # pyright: ignore[reportArgumentType] - a case's own values

    return brings_job(headers)


def captured(headers: Headers, body: bytes, *, kill: bool = False) -> Attack:
    """One good request sent twice, byte for byte; with ``kill``, by SIGKILL the daemon forgets all but its ledger."""

    async def attack(victim: Victim) -> list[Answer]:
        request = post(headers(victim), body)
        first = await talk(victim, [request])
        if kill:
            await victim.miner.kill()
            await victim.miner.start()
        return first + await talk(victim, [request])

    return attack


def collects(late_seconds: float) -> Attack:
    """A collection whose nonce is of so many seconds from now, under a uuid of its own."""

    def make(victim: Victim) -> Iterable[bytes]:
        return [post(dendrite_headers(victim, nonce=str(_late(late_seconds)), uuid="two-nonces"), document())]

    return makes(make)


def stolen_uuid(victim: Victim) -> dict[str, str]:
    """The honest validator's uuid under another hotkey, as far ahead as is allowed."""
    return dendrite_headers(victim, nonce=str(_late(9.0)), uuid=victim.honest._uuid)


async def many_uuids(victim: Victim) -> list[Answer]:
    """10,000 requests of one permitted validator, each with a uuid of its own, on kept-alive connections."""
    found: list[Answer] = []
    for batch in range(1000):
        parts = [
            post(dendrite_headers(victim, signer=SECOND, uuid=f"uuid-{batch}-{number}"), document(), close=number == 9)
            for number in range(10)
        ]
        found += await talk(victim, parts)
    return found


async def many_unsigned_uuids(victim: Victim) -> list[Answer]:
    """2,000 requests of nobody, each with a uuid of its own."""
    found: list[Answer] = []
    for number in range(2000):
        headers = dendrite_headers(victim, uuid=f"uuid-{number}", changes={"bt_header_dendrite_signature": None})
        found += await talk(victim, [post(headers, _JOB)])
    return found


def _ed25519(victim: Victim) -> dict[str, str]:
    key = Keypair.create_from_uri("//hostile-other-scheme", crypto_type=CRYPTO_ED25519)
    return btauth_headers(victim, _JOB, signer=key)


def _body_of_another(victim: Victim) -> dict[str, str]:
    return btauth_headers(victim, document())


def _both_schemes(victim: Victim) -> dict[str, str]:
    return dendrite_headers(victim) | btauth_headers(victim, _JOB, changes={"X-Bittensor-Signature": "0x" + "00" * 64})


def _forged(victim: Victim) -> dict[str, str]:
    """Signed by one key under the name of another."""
    return dendrite_headers(victim, signer=STRANGER, changes={"bt_header_dendrite_hotkey": HONEST.ss58_address})


FRESHNESS: Final[list[Case]] = [
    Case("nonce 31 s old", dendrite(nonce=lambda: str(_late(-31))), (401,), "too old", sampled=True),
    Case("nonce an hour old", dendrite(nonce=lambda: str(_late(-_HOUR))), (401,), "too old"),
    Case("nonce of 1970", dendrite(nonce="1"), (401,), "too old"),
    Case("nonce 0", dendrite(nonce="0"), (401,), "too old"),
    Case("nonce a minute ahead", dendrite(nonce=lambda: str(_late(60))), (401,), "in the future"),
    Case("nonce an hour ahead", dendrite(nonce=lambda: str(_late(_HOUR))), (401,), "in the future", sampled=True),
    Case("nonce a year ahead", dendrite(nonce=lambda: str(_late(_YEAR))), (401,), "in the future"),
    Case("nonce 2^63 - 1", dendrite(nonce=str(2**63 - 1)), (401,), "in the future"),
    Case("nonce 2^63", dendrite(nonce=str(2**63)), (400,), NO_TIME, sampled=True),
    Case("nonce 2^70", dendrite(nonce=str(2**70)), (400,), NO_TIME),
    Case("nonce of 5,000 digits", dendrite(nonce="1" * 5000), (400,), NO_TIME),
    Case("negative nonce", dendrite(nonce=lambda: f"-{time.time_ns()}"), (400,), NO_TIME),
    Case("nonce with a fraction", dendrite(nonce=lambda: f"{time.time_ns()}.0"), (400,), NO_TIME),
    Case("nonce in words", dendrite(nonce="now"), (400,), NO_TIME),
    Case("nonce with a space", dendrite(nonce=lambda: f"{time.time_ns()} 1"), (400,), NO_TIME),
    Case("nonce in digits of another script", changed(nonce="\xb2\xb3"), (400,), NO_TIME),
    Case("no nonce", changed(nonce=None), (401,), "Missing Nonce"),
    Case(
        "a long timeout does not make it fresh",
        dendrite(nonce=lambda: str(_late(-31)), changes={"timeout": "86400"}),
        (401,),
        "too old",
    ),
    Case(
        "an old version does not make it fresh",
        dendrite(nonce="1", changes={"bt_header_dendrite_version": "1"}),
        (401,),
        "too old",
    ),
]

REPLAYS: Final[list[Case]] = [
    Case(
        "a collection replayed at once",
        captured(dendrite_headers, document()),
        (200, 401),
        REPLAYED,
        least=2,
        sampled=True,
    ),
    Case(
        "a job replayed at once",
        captured(dendrite_headers, json.dumps(JOB | {"execution_id": "replayed-1"}).encode()),
        (200, 401),
        REPLAYED,
        least=2,
        new_jobs=1,
    ),
    Case(
        "a job replayed after SIGKILL and a new start",
        captured(dendrite_headers, json.dumps(JOB | {"execution_id": "replayed-2"}).encode(), kill=True),
        (200, 401),
        REPLAYED,
        least=2,
        new_jobs=1,
        restarts=True,
        sampled=True,
    ),
    Case("an older nonce of the same dendrite", in_turn(collects(5.0), collects(-5.0)), (200, 401), REPLAYED, least=2),
    Case("another miner's request", dendrite(receiver=STRANGER.ss58_address), (401,), "for another axon", sampled=True),
    Case(
        "another miner's request with our name put in",
        brings_job(
            lambda victim: dendrite_headers(
                victim, receiver=STRANGER.ss58_address, changes={"bt_header_axon_hotkey": victim.hotkey}
            )
        ),
        (401,),
        MISMATCH,
    ),
    Case(
        "signed for us, in another's name",
        changed(bt_header_axon_hotkey=STRANGER.ss58_address),
        (401,),
        "names another axon",
    ),
    Case(
        "an honest validator's uuid under another hotkey",
        makes(lambda victim: [post(stolen_uuid(victim), document())]),
        (200,),
    ),
    Case("10,000 uuids of one validator", many_uuids, (200,), least=10_000),
    Case("2,000 uuids of nobody", many_unsigned_uuids, (401,), "Missing Signature", least=2000),
]

SIGNATURES: Final[list[Case]] = [
    Case("no headers at all", brings_job(lambda _: {}), (401,), "Missing Nonce", sampled=True),
    Case("no signature", changed(signature=None), (401,), "Missing Signature", sampled=True),
    Case("an empty signature", changed(signature=""), (401,), "Missing Signature"),
    Case("a signature without 0x", changed(signature="ab" * 64), (401,), FORMAT),
    Case("a signature that is not hex", changed(signature="0x" + "zz" * 64), (401,), FORMAT),
    Case("half a signature", changed(signature="0x" + "ab" * 32), (401,), FORMAT),
    Case("a signature of 8 KB", changed(signature="0x" + "ab" * 4000), (401,), FORMAT),
    Case("a signature of zeros", changed(signature="0x" + "00" * 64), (401,), MISMATCH),
    Case("a signature of ones", changed(signature="0x" + "ff" * 64), (401,), MISMATCH),
    Case("a signature by another key", brings_job(_forged), (401,), MISMATCH, sampled=True),
    Case("the hash of another body, signed", dendrite(body_hash="00" * 32), (400,), "computed_body_hash"),
    Case("the hash of another body, not signed", changed(computed_body_hash="00" * 32), (401,), MISMATCH),
    Case("no body hash", changed(computed_body_hash=None), (401,), "computed_body_hash"),
    Case("no hotkey", changed(hotkey=None), (401,), "bt_header_dendrite_hotkey"),
    Case("a hotkey that is no address", changed(hotkey="nobody"), (401,), MISMATCH),
    Case("a hotkey with bytes beyond ASCII", changed(hotkey="5\xe9\xff"), (401,), "bt_header_dendrite_hotkey"),
    Case("a hotkey of 300 characters", changed(hotkey="5" * 300), (401,), "bt_header_dendrite_hotkey"),
    Case("another uuid", changed(uuid="x"), (401,), MISMATCH),
    Case("no uuid", changed(uuid=None), (401,), "bt_header_dendrite_uuid"),
    Case("a uuid of 300 characters, signed", dendrite(uuid="u" * 300), (401,), "bt_header_dendrite_uuid"),
    Case("a signed uuid with dots", dendrite(uuid="a.b", signer=POOR), (403,), "Stake below"),
]

MEMBERSHIP: Final[list[Case]] = [
    Case("a hotkey outside the subnet", dendrite(signer=STRANGER), (403,), "Unrecognized hotkey", sampled=True),
    Case("a neuron without permit", dendrite(signer=NO_PERMIT), (403,), "Non-validator hotkey", sampled=True),
    Case("a validator below the stake", dendrite(signer=POOR), (403,), "Stake below 1000", sampled=True),
    Case(
        "a stranger in the body's name",
        brings_job(lambda victim: dendrite_headers(victim, signer=STRANGER)),
        (403,),
        "Unrecognized hotkey",
    ),
]

BTAUTH: Final[list[Case]] = [
    Case(
        "btauth: replayed at once",
        captured(lambda victim: btauth_headers(victim, document()), document()),
        (200, 401),
        REPLAYED,
        least=2,
        sampled=True,
    ),
    Case(
        "btauth: a job replayed after SIGKILL",
        captured(
            lambda victim: btauth_headers(victim, json.dumps(JOB | {"execution_id": "replayed-3"}).encode()),
            json.dumps(JOB | {"execution_id": "replayed-3"}).encode(),
            kill=True,
        ),
        (200, 401),
        REPLAYED,
        least=2,
        new_jobs=1,
        restarts=True,
    ),
    Case("btauth: another body", brings_job(_body_of_another), (401,), "does not verify", sampled=True),
    Case("btauth: another path", btauth(path="/Other"), (401,), "does not verify"),
    Case(
        "btauth: with a query",
        makes(
            lambda victim: [
                head(
                    btauth_headers(victim, _JOB) | {"Content-Length": str(len(_JOB)), "Connection": "close"},
                    target="/CircuitSynapse?a=1",
                )
                + _JOB
            ]
        ),
        (401,),
        "does not verify",
    ),
    Case("btauth: for another miner", btauth(receiver=STRANGER.ss58_address), (401,), "different receiving hotkey"),
    Case("btauth: for nobody", btauth(changes={"X-Bittensor-Receiver": None}), (401,), "receiver"),
    Case("btauth: 31 s old", btauth(nonce_ns=lambda: _late(-31)), (401,), "older"),
    Case("btauth: an hour ahead", btauth(nonce_ns=lambda: _late(_HOUR)), (401,), "future"),
    Case("btauth: nonce 2^70", btauth(nonce_ns=2**70), (401,), "future"),
    Case("btauth: negative nonce", btauth(nonce_ns=-1), (401,), "older"),
    Case("btauth: nonce in words", btauth(changes={"X-Bittensor-Nonce": "now"}), (401,), "not a decimal"),
    Case("btauth: nonce of 5,000 digits", btauth(changes={"X-Bittensor-Nonce": "1" * 5000}), (401,), "not a decimal"),
    Case("btauth: no signature", btauth(changes={"X-Bittensor-Signature": None}), (401,), "missing"),
    Case("btauth: a garbled signature", btauth(changes={"X-Bittensor-Signature": "0xzz"}), (401,), "not hex"),
    Case(
        "btauth: half a signature",
        btauth(changes={"X-Bittensor-Signature": "0x" + "ab" * 32}),
        (401,),
        "invalid hotkey address or signature",
    ),
    Case(
        "btauth: a hotkey that is no address",
        btauth(changes={"X-Bittensor-Hotkey": "nobody"}),
        (401,),
        "invalid hotkey address",
    ),
    Case(
        "btauth: a hotkey with bytes beyond ASCII",
        btauth(changes={"X-Bittensor-Hotkey": "5\xe9"}),
        (401,),
        "invalid hotkey address",
    ),
    Case("btauth: an ed25519 key", brings_job(_ed25519), (401,), "sr25519"),
    Case("btauth: version 2", btauth(changes={"X-Bittensor-Version": "2"}), (401,), "unsupported"),
    Case("btauth: outside the subnet", btauth(signer=STRANGER), (403,), "Unrecognized hotkey"),
    Case("btauth: without permit", btauth(signer=NO_PERMIT), (403,), "Non-validator hotkey"),
    Case("btauth: below the stake", btauth(signer=POOR), (403,), "Stake below 1000"),
    Case("both schemes, one of them forged", brings_job(_both_schemes), (401,), "does not verify"),
    Case(
        "btauth: a body that never comes",
        makes(lambda victim: [head(btauth_headers(victim, _JOB) | {"Content-Length": "500"}) + b"{"]),
        (408,),
        "did not arrive in time",
    ),
]
