"""What the operator's own HTTP port tells of the daemon: receipts, one job, health in detail.

Who may ask is decided in front of it (`qcompute.console.guard`). Read-only. Nothing here shows a secret: no URL, no
token, no circuit text. ``GET /openapi.json`` describes it all, made from the same table that the routes are made from;
a route more is an `Operation` more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from qcompute import __version__
from qcompute.errors import StoreError
from qcompute.ledger.contract import Ledger
from qcompute.miner.job import Job, State, Verdict
from qcompute.protocol import is_row_id
from qcompute.receipts.document import Receipt
from qcompute.units import ExecutionId

AskHealth = Callable[[], Awaitable[dict[str, Any]]]
Handler = Callable[[Request], Awaitable[Response]]

OPENAPI: Final = "3.1.0"
_SCHEMAS: Final = "#/components/schemas/{model}"


class Message(BaseModel):
    """Why there is no other answer."""

    message: str = Field(min_length=1)


class Failing(Message):
    """The daemon runs, and its store does not answer."""

    status: str = Field(pattern="^failing$")


class AccountDocument(BaseModel):
    """One account: ``offline_because`` is null while it can be used; ``devices`` are those jobs may go to.

    ``takes_jobs``: new jobs may go there; one that does not is open for jobs that are there.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    vendor: str
    takes_jobs: bool
    offline_because: str | None
    devices: list[str]


class HealthDocument(BaseModel):
    """How the daemon is. ``jobs`` counts them by state; ``metagraph_age_seconds`` is null until it was read once.

    ``in_use`` is the connection new jobs go to, or ``provider``.
    """

    model_config = ConfigDict(extra="allow")

    status: str = Field(pattern="^ok$")
    version: str
    uptime_seconds: int = Field(ge=0)
    jobs: dict[State, int]
    metagraph_age_seconds: float | None
    chain_failing: bool
    provider: str
    in_use: str
    accounts: list[AccountDocument]
    devices: list[str]


class JobDocument(BaseModel):
    """One job, without its URL and its circuit; fields are those of `qcompute.miner.job.Job`."""

    model_config = ConfigDict(extra="forbid")

    execution_id: str
    validator_hotkey: str
    state: State
    verdict: Verdict | None
    shots: int
    configuration_data: dict[str, Any]
    provider: str | None
    device_id: str | None
    placement: dict[str, Any] | None
    prepared: dict[str, Any] | None
    provider_job_id: str | None
    vendor_status: str | None
    circuit_sha256: str | None
    submit_attempts: int = Field(ge=0)
    attempts: int = Field(ge=0)
    error_code: str | None
    error: str | None
    upload_id: str | None
    received_at: datetime
    submitted_at: datetime | None
    settled_at: datetime | None
    closed_at: datetime | None
    due_at: datetime
    deadline_at: datetime


class OpenApiDocument(BaseModel):
    """An OpenAPI document."""

    model_config = ConfigDict(extra="allow")

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]


_SHOWN: Final = tuple(JobDocument.model_fields)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path: what answers it, and what it may answer, by status."""

    path: str
    summary: str
    handler: Handler = field(repr=False)
    answers: Mapping[int, type[BaseModel]]
    method: str = "GET"
    body: type[BaseModel] | None = None


EXECUTION_ID: Final[dict[str, Any]] = {
    "name": "execution_id",
    "in": "path",
    "required": True,
    "description": "The platform's id of the job",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]*$"},
}


def operator_app(ledger: Ledger, health: AskHealth, more: Sequence[Operation] = ()) -> Starlette:
    """``GET /health``, ``/jobs/{execution_id}``, ``/receipts/{execution_id}`` and ``/openapi.json``, and ``more``.

    A receipt is the signed document itself, byte for byte: save it and run ``python -m qcompute.receipts verify``.
    """

    async def get_health(_: Request) -> Response:
        return JSONResponse(await health())

    async def get_receipt(request: Request) -> Response:
        execution_id = _execution_id(request)
        receipt = await ledger.receipt(execution_id) if execution_id else None
        if receipt is None:
            return _refusal(404, "no receipt for this job: it is unknown here, or has not ended yet")
        return Response(receipt, media_type="application/json")

    async def get_job(request: Request) -> Response:
        execution_id = _execution_id(request)
        job = await ledger.get(execution_id) if execution_id else None
        if job is None:
            return _refusal(404, "no such job here")
        return JSONResponse(job_document(job))

    async def get_openapi(_: Request) -> Response:
        return JSONResponse(document)

    found: dict[int, type[BaseModel]] = {404: Message, 503: Failing}
    operations = [
        Operation("/health", "How the daemon is", get_health, {200: HealthDocument, 503: Failing}),
        Operation("/jobs/{execution_id}", "One job", get_job, {200: JobDocument, **found}),
        Operation("/receipts/{execution_id}", "The signed receipt of one job", get_receipt, {200: Receipt, **found}),
        Operation("/openapi.json", "This document", get_openapi, {200: OpenApiDocument}),
        *more,
    ]
    document = openapi_document(operations)
    return Starlette(
        routes=[Route(one.path, one.handler, methods=[one.method]) for one in operations],
        exception_handlers={HTTPException: _not_served, StoreError: _store_failing},
    )


def openapi_document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document of these operations."""
    models = {model for one in operations for model in (*one.answers.values(), one.body) if model is not None}
    by_name = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "serialization") for model in by_name], ref_template=_SCHEMAS)
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _described(one)
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "qcompute operator port",
            "version": __version__,
            "description": "What a miner's operator may look at. A token is needed where operator.token is set.",
        },
        "paths": paths,
        "components": {"schemas": schemas.get("$defs", {})},
    }


def _described(one: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{one.method.lower()}{one.path.replace('/', '_').replace('{', '').replace('}', '')}",
        "summary": one.summary,
        "responses": {
            str(status): {"description": _first_line(model), "content": _content(model)}
            for status, model in one.answers.items()
        },
    }
    if "{execution_id}" in one.path:
        described["parameters"] = [EXECUTION_ID]
    if one.body is not None:
        described["requestBody"] = {"required": True, "content": _content(one.body)}
    return described


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _SCHEMAS.format(model=model.__name__)}}}


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or model.__name__).splitlines()[0]


def job_document(job: Job) -> dict[str, Any]:
    """What an operator may see of a job: no URL, no circuit."""
    return {name: _plain(getattr(job, name)) for name in _SHOWN}


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _execution_id(request: Request) -> ExecutionId | None:
    text = str(request.path_params["execution_id"])
    return ExecutionId(text) if is_row_id(text) else None


def _refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"message": message}, status_code=status, headers=headers)


async def _not_served(_: Request, error: Exception) -> Response:
    """No such path or method, as JSON like everything else."""
    if isinstance(error, HTTPException):
        return _refusal(error.status_code, error.detail, error.headers)
    return _refusal(500, "this is a bug of ours")


async def _store_failing(_: Request, error: Exception) -> Response:
    return JSONResponse({"status": "failing", "message": str(error) or "the store fails"}, status_code=503)
