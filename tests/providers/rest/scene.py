"""An endpoint that says what it is told to, and what else the tests of the adapter for plain REST share."""

from __future__ import annotations

import json
from typing import Any, Protocol

from aiohttp import web

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.connections.credentials import Secret
from qcompute.miner.providers.base import (
    JobHandle,
    JobReceipt,
)
from qcompute.miner.providers.rest import RestAdapter
from qcompute.units import IdempotencyToken
from qcompute.vendor.rest.settings import RestConfig
from tests.doubles.rest import TOKEN
from tests.doubles.vendor import VendorDouble, VendorJob

X = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\ncreg c[1];\nx q[0];\nmeasure q -> c;\n'


def config(double: VendorDouble, **more: object) -> RestConfig:
    given = {"base_urls": (double.url,), "token": Secret("rest", TOKEN), "read_seconds": 1.0, "submit_seconds": 1.5}
    return RestConfig.model_validate(given | more)


MEASUREMENT = MeasurementMap(
    registers=(Register(name="c0", size=1), Register(name="c1", size=2)), measured=((0, 2), (1, 0), (2, 1))
)

COUNTS = {"010": 60, "110": 40}


class Told(VendorDouble):
    """Answers every request with ``answers[METHOD]``: a status and a body. Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, tuple[int, Any]] = {}
        self.requests: list[tuple[str, dict[str, str], Any]] = []

    async def execute(self, job: VendorJob) -> Any:
        raise NotImplementedError

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/{path:.*}", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.requests.append((f"{request.method} {request.raw_path}", dict(request.headers), body))
        status, answer = self.answers.get(request.method, (200, {}))
        if isinstance(answer, bytes):
            return web.Response(status=status, body=answer)
        return web.json_response(answer, status=status)

    @property
    def lines(self) -> list[str]:
        return [line for line, _, _ in self.requests]


class Make(Protocol):
    def __call__(self, **settings: object) -> RestAdapter: ...


def submitted(adapter: RestAdapter, told: Told, answer: Any, *, status: int = 200, **more: Any) -> JobHandle:
    """The handle of a circuit that was answered so, as it comes back from the ledger."""
    told.answers["POST"] = (status, answer)
    handle = adapter.submit(X, shots=100, token=IdempotencyToken("t-1"), **more)
    stored = json.dumps(handle.model_copy(update={"measurement": MEASUREMENT}).model_dump(mode="json"))
    return JobHandle.model_validate(json.loads(stored))


def receipt_of(adapter: RestAdapter, told: Told, answer: Any) -> JobReceipt:
    return adapter.get_job_receipt(submitted(adapter, told, answer))


def counted(receipt: JobReceipt) -> Any:
    return (receipt.results or {})["measurementCounts"]


def metadata(receipt: JobReceipt) -> dict[str, Any]:
    return receipt.metadata or {}


PRICED = {"per_task": "0.30", "per_shot": "0.01", "currency": "EUR"}
