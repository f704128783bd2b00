"""What the tests of IonQ's adapter share: programs, ways to run them, and IonQ's own description of its API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, cast

import httpx
import jsonschema

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.circuits.program import JobOptions
from qcompute.connections.credentials import Secret
from qcompute.miner.providers.base import (
    Absent,
    BaseExecutionStatus,
    CannotTell,
    Device,
    Found,
    JobHandle,
    JobReceipt,
    Prepared,
    ProviderStatus,
)
from qcompute.miner.providers.ionq import IonqAdapter, IonqConfig
from qcompute.testing.provider_contract import ASYMMETRIC, compiler
from qcompute.units import IdempotencyToken
from tests.doubles.ionq import IonqDouble
from tests.doubles.vendor import VendorJob

KEY = "ionq-key-1"
QPU = "qpu.forte-1"
OPENAPI = Path(__file__).parents[2] / "doubles" / "data" / "ionq_openapi.json"

PROGRAM = """OPENQASM 3.0;
include "stdgates.inc";
bit[1] a;
bit[2] b;
qubit[3] q;
x q[0];
a[0] = measure q[2];
b[0] = measure q[0];
b[1] = measure q[1];
"""
"""The contract's circuit: one bit set, in the middle of the key."""
READ = MeasurementMap(
    registers=(Register(name="a", size=1), Register(name="b", size=2)), measured=((0, 2), (1, 0), (2, 1))
)
BELL = PROGRAM.replace("x q[0];", "h q[2];\ncx q[2], q[0];")
"""a[0] and b[0] are equal, and random: two registers that hang together."""

Adapters = Callable[..., IonqAdapter]
"""Makes adapters for the double, with further settings."""


@contextmanager
def adapters_of(double: IonqDouble) -> Generator[Adapters]:
    """Adapters are closed at the end."""
    made: list[IonqAdapter] = []

    def make(**settings: Any) -> IonqAdapter:
        settings = {"url": double.base, "api_key": Secret("ionq", KEY), "timeout_seconds": 2.0} | settings
        made.append(IonqAdapter(IonqConfig(submit_timeout_seconds=2.0, **settings)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def submitted(adapter: IonqAdapter, device: str = QPU, program: str = PROGRAM, token: str = "token-1") -> JobHandle:
    handle = adapter.submit(program, device, 100, token=IdempotencyToken(token))
    return handle.model_copy(update={"measurement": READ})


def ended(adapter: IonqAdapter, handle: JobHandle) -> BaseExecutionStatus:
    deadline = time.monotonic() + 30
    while not ProviderStatus.of((status := adapter.poll(handle)).status).is_terminal:
        assert time.monotonic() < deadline, status
        time.sleep(0.02)
    return status


def receipt_of(adapter: IonqAdapter, device: str = QPU, program: str = PROGRAM) -> JobReceipt:
    handle = submitted(adapter, device, program)
    ended(adapter, handle)
    return adapter.get_job_receipt(handle)


def facts_of(receipt: JobReceipt) -> Mapping[str, Any]:
    assert receipt.metadata is not None
    return receipt.metadata


def translated(adapter: IonqAdapter, device: Device, shots: int = 1000, **options: Any) -> Prepared:
    """The contract's circuit, through the real sandbox."""
    wishes = JobOptions(passed_on=options)
    target = adapter.target(device, wishes)
    assert target is not None
    return adapter.prepare(compiler().translate(ASYMMETRIC, target, None), device, shots, wishes)


def device_of(adapter: IonqAdapter, device_id: str) -> Device:
    return next(device for device in adapter.list_devices() if device.device_id == device_id)


def stored(double: IonqDouble, job_id: str, *, age_seconds: float = 0.0, word: str = "completed", **body: Any) -> None:
    """A job that is at IonQ already."""
    request = {"type": "ionq.circuit.v1", "metadata": None, "name": None} | body
    created = time.time() - age_seconds
    double.jobs[job_id] = VendorJob(job_id, QPU, 10, request, word, created=created, ended=created)


def look(adapter: IonqAdapter, token: str, minutes: float = 10.0) -> Found | Absent | CannotTell:
    return adapter.find(IdempotencyToken(token), datetime.now(UTC) - timedelta(minutes=minutes))


@cache
def description() -> Any:
    """The OpenAPI document with ``nullable`` said as JSON Schema says it."""
    return _nullable(json.loads(OPENAPI.read_text(encoding="utf-8")))


def _nullable(part: Any) -> Any:
    if isinstance(part, list):
        return [_nullable(one) for one in cast("list[Any]", part)]
    if not isinstance(part, dict):
        return part
    changed = {key: _nullable(value) for key, value in cast("dict[str, Any]", part).items() if key != "nullable"}
    return {"anyOf": [changed, {"type": "null"}]} if cast("dict[str, Any]", part).get("nullable") is True else changed


def conforms(value: object, schema: Mapping[str, Any]) -> None:
    whole = dict(schema) | {"components": description()["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)  # pyright: ignore[reportUnknownMemberType]


def named(name: str) -> dict[str, Any]:
    assert name in description()["components"]["schemas"]
    return {"$ref": f"#/components/schemas/{name}"}


def get(double: IonqDouble, path: str, **params: str) -> Any:
    answer = httpx.get(double.base + path, params=params, headers={"Authorization": f"apiKey {double.key}"})
    return answer.json()
