"""Each HTTP surface does what its description says, whatever it is asked; ``python -m tests.hostile api`` asks more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import override

from qcompute.errors import StoreError
from qcompute.ledger.memory import MemoryLedger
from qcompute.miner.job import Job, State
from qcompute.miner.operator import Message, Operation, job_document, operator_app
from qcompute.testing.ledger_records import brought_to
from qcompute.units import ExecutionId
from tests.hostile.api import fuzz, fuzz_all
from tests.hostile.network_victim import running_victim

EXAMPLES = 8


async def test_every_surface_answers_as_described() -> None:
    """What was found with it: 405 without ``Allow``, 404 for a wrong method of /health, text where JSON was said."""
    for one in await fuzz_all(EXAMPLES):
        assert one.failures == [], one.surface
        assert one.total >= 40, one.surface
        assert max(one.calls) < 500, one.surface


async def test_a_description_that_is_wrong_is_found_out(tmp_path: Path) -> None:
    """The fuzzer itself: descriptions that promise too little must fail."""
    async with running_victim(tmp_path) as victim:
        url = victim.miner.operator_url
        async with httpx.AsyncClient(trust_env=False) as client:
            described: dict[str, Any] = (await client.get(f"{url}/openapi.json")).json()
        del described["paths"]["/jobs/{execution_id}"]["get"]["responses"]["404"]
        described["components"]["schemas"]["HealthDocument"]["properties"]["version"] = {"type": "integer"}
        found = await asyncio.to_thread(fuzz, "operator port", described, url, examples=2)
        failures = " ".join(found.failures)
        assert "GET /jobs/{execution_id}: status_code_conformance" in failures
        assert "GET /health: response_schema_conformance" in failures


class FailingLedger(MemoryLedger):
    """A ledger whose disk is gone."""

    @override
    async def get(self, execution_id: ExecutionId) -> Job | None:
        raise StoreError("the disk is full")

    @override
    async def receipt(self, execution_id: ExecutionId) -> str | None:
        raise StoreError("the disk is full")


async def asked(ledger: MemoryLedger, path: str, *more: Operation, method: str = "GET") -> httpx.Response:
    async def health() -> dict[str, Any]:
        raise StoreError("the disk is full")

    app = operator_app(ledger, health, more)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://operator") as client:
        return await client.request(method, path)


@pytest.mark.parametrize("path", ["/health", "/jobs/job-1", "/receipts/job-1"])
async def test_a_store_that_fails_is_a_503_everywhere(path: str) -> None:
    """Jobs and receipts used to answer 500 with a traceback in the log; only health said what was wrong."""
    answer = await asked(FailingLedger(), path)
    assert (answer.status_code, answer.json()) == (503, {"status": "failing", "message": "the disk is full"})


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nope", 404), ("POST", "/health", 405), ("GET", "/jobs/a/b", 404)]
)
async def test_what_is_not_served_is_refused_in_json(method: str, path: str, status: int) -> None:
    answer = await asked(MemoryLedger(), path, method=method)
    assert answer.status_code == status
    assert answer.json()["message"]
    assert ("allow" in answer.headers) is (status == 405)


async def test_one_job_is_described_whole() -> None:
    ledger = MemoryLedger()
    job = await brought_to(ledger, ExecutionId("job-1"), State.CLOSED)
    answer = await asked(ledger, "/jobs/job-1")
    assert answer.json() == job_document(job)
    assert "input_data_url" not in answer.json()


class Note(BaseModel):
    """What a command is told."""

    note: str


async def test_an_operation_more_is_served_and_described() -> None:
    async def command(request: Request) -> Response:
        return JSONResponse({"message": request.path_params["execution_id"]}, status_code=202)

    release = Operation("/jobs/{execution_id}/release", "Let it go", command, {202: Message}, method="POST", body=Note)
    assert (await asked(MemoryLedger(), "/jobs/a/release", release, method="POST")).json() == {"message": "a"}
    described = (await asked(MemoryLedger(), "/openapi.json", release)).json()
    operation = described["paths"]["/jobs/{execution_id}/release"]["post"]
    assert operation["parameters"][0]["name"] == "execution_id"
    assert operation["requestBody"]["content"]["application/json"]["schema"]["$ref"] == "#/components/schemas/Note"
    assert set(operation["responses"]) == {"202"}
    assert set(described["components"]["schemas"]) >= {"Note", "Message", "HealthDocument", "JobDocument", "Receipt"}
