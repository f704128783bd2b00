"""Rightly signed requests whose bodies are not what a validator sends; this protocol does not sign the body."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.hostile.network_attacks import (
    Attack,
    Case,
    dendrite_headers,
    document,
    in_turn,
    makes,
    post,
)
from tests.hostile.network_victim import JOB

BAD: Final = "Bad request"


def body(*bodies: bytes, **headers: str) -> Attack:
    """Each body in a request of its own, all headers right but for these."""

    def one(data: bytes) -> Attack:
        return makes(lambda victim: [post(dendrite_headers(victim, changes=dict(headers)), data)])

    return in_turn(*(one(data) for data in bodies))


def job(**changes: Any) -> bytes:
    """A job that would be taken but for these fields."""
    return json.dumps(JOB | changes).encode()


def wrong(field: str, *values: object) -> Case:
    """Each of these values in place of a field."""
    attack = body(*(job(**{field: value}) for value in values))
    return Case(f"{field} of another type or size", attack, (422,), f"{BAD}: {field}: ", least=len(values))


def raw_config(text: str) -> bytes:
    """A job with this text for its configuration data."""
    return json.dumps(JOB).replace('"configuration_data": {}', f'"configuration_data": {text}').encode()


def refused(name: str, words: str, *bodies: bytes) -> Case:
    """Jobs that are understood and not taken: 200, ``success`` false and the reason for the user."""
    return Case(name, body(*bodies), (200,), words, least=len(bodies))


_NOT_OBJECTS: Final = (b"", b" ", b"null", b"true", b"5", b'"text"', b"[]", b"[{}]", b"not json", b"{", b"{}}", b"<a/>")

BODIES: Final[list[Case]] = [
    wrong("execution_id", None, 5, 1.5, True, [], {}, "x" * 129),
    wrong("shots", None, "many", "", [], {}, 1.5, 10**30, -(10**30)),
    wrong("configuration_data", None, 5, "text", [], True),
    wrong("input_data_url", None, 5, [], {}, "https://192.0.2.1/" + "x" * 8192),
    wrong("last_circuit", None, 5, [], {}, "x" * 257),
    wrong("timeout", None, "soon", [], {}),
    wrong("total_size", None, "large", [], 1.5, 10**30),
    wrong("header_size", None, "large", [], 1.5, 10**30),
    Case("a body that is no JSON object", body(*_NOT_OBJECTS), (422,), BAD, least=len(_NOT_OBJECTS), sampled=True),
    *(
        Case(
            f"{field} is missing",
            body(json.dumps({k: v for k, v in JOB.items() if k != field}).encode()),
            (422,),
            f"{field}: Field required",
        )
        for field in JOB
    ),
    Case(
        "configuration data nested 5,000 deep",
        body(raw_config('{"a":' * 5000 + "1" + "}" * 5000)),
        (422,),
        BAD,
        sampled=True,
    ),
    Case("lists nested 30,000 deep", body(b"[" * 30_000 + b"]" * 30_000), (422,), BAD),
    Case(
        "NaN, Infinity and 1e999",
        body(*(raw_config(f'{{"a": {text}}}') for text in ("NaN", "Infinity", "-Infinity", "1e999"))),
        (422,),
        "numbers must be finite",
        least=4,
        sampled=True,
    ),
    Case(
        "a timeout without an end",
        body(document(timeout=float("inf")), document(timeout=float("nan"))),
        (422,),
        "finite",
        least=2,
    ),
    Case(
        "whole numbers beyond 64 bits",
        body(raw_config(f'{{"a": {2**64}}}'), raw_config(f'{{"a": [{{"b": -{10**300}}}]}}')),
        (422,),
        "fit 64 bits",
        least=2,
        sampled=True,
    ),
    Case("a number of 10,000 digits", body(raw_config('{"a": ' + "1" * 10_000 + "}")), (422,), BAD),
    Case(
        "half a surrogate pair",
        body(raw_config('{"a": "\\ud800"}'), job(input_data_url="https://192.0.2.1/\udfff")),
        (422,),
        "Invalid JSON",
        least=2,
    ),
    Case(
        "bytes that are not UTF-8",
        body(b"\xff\xfe", b'{"execution_id": "\xff"}', json.dumps(JOB).encode("utf-16")),
        (422,),
        BAD,
        least=3,
    ),
    Case(
        "a key twice: a job first, a collection last", body(b'{"execution_id": "hostile-1", ' + document()[1:]), (200,)
    ),
    Case("10,000 unknown keys", body(document(**{f"k{n}": n for n in range(4000)})), (200,)),
    Case("the name of another synapse", body(document(name="Other"), name="Other"), (200,)),
    Case("another content type", body(document(), **{"Content-Type": "application/xml"}), (200,)),
    Case("a version of 5,000 digits", body(document(), bt_header_dendrite_version="1" * 5000), (200,), sampled=True),
    Case("a version of 500 digits", body(document(), bt_header_dendrite_version="1" * 500), (200,)),
    Case("identity in the body", body(document(dendrite={"hotkey": "5" * 48}, axon={"status_code": 500})), (200,)),
    refused("shots out of range", "shots must be between", job(shots=0), job(shots=-5), job(shots=2**62)),
    refused(
        "execution ids that are paths or statements",
        "execution_id must be",
        *(
            job(execution_id=text)
            for text in ("", " ", "../../x", "a b", "a\0b", "a'; DROP TABLE jobs;--", "ünï", "%2e%2e")
        ),
    ),
    refused("no URL", "input_data_url is empty", job(input_data_url="")),
]
