"""The operator's own HTTP port: receipts, one job, health in detail. Loopback by default, no authentication.

Read-only. Nothing here shows a secret: no URL, no token, no circuit text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from qcompute.errors import StoreError
from qcompute.ledger.contract import Ledger
from qcompute.miner.job import Job
from qcompute.protocol import is_execution_id
from qcompute.units import ExecutionId

Health = Callable[[], Awaitable[dict[str, Any]]]

_SHOWN = (
    "execution_id",
    "validator_hotkey",
    "state",
    "verdict",
    "shots",
    "configuration_data",
    "provider",
    "device_id",
    "prepared",
    "provider_job_id",
    "vendor_status",
    "circuit_sha256",
    "submit_attempts",
    "attempts",
    "error_code",
    "error",
    "upload_id",
    "received_at",
    "submitted_at",
    "settled_at",
    "closed_at",
    "due_at",
    "deadline_at",
)


def operator_app(ledger: Ledger, health: Health) -> Starlette:
    """``GET /health``, ``/jobs/{execution_id}`` and ``/receipts/{execution_id}``.

    A receipt is the signed document itself, byte for byte: save it and run ``python -m qcompute.receipts verify``.
    """

    async def get_health(_: Request) -> Response:
        try:
            return JSONResponse(await health())
        except StoreError as error:
            return JSONResponse({"status": "failing", "message": error.message}, status_code=503)

    async def get_receipt(request: Request) -> Response:
        execution_id = _execution_id(request)
        receipt = await ledger.receipt(execution_id) if execution_id else None
        if receipt is None:
            return _not_found("no receipt for this job: it is unknown here, or has not ended yet")
        return Response(receipt, media_type="application/json")

    async def get_job(request: Request) -> Response:
        execution_id = _execution_id(request)
        job = await ledger.get(execution_id) if execution_id else None
        if job is None:
            return _not_found("no such job here")
        return JSONResponse(job_document(job))

    return Starlette(
        routes=[
            Route("/health", get_health),
            Route("/receipts/{execution_id}", get_receipt),
            Route("/jobs/{execution_id}", get_job),
        ]
    )


def job_document(job: Job) -> dict[str, Any]:
    """What an operator may see of a job: no URL, no circuit."""
    return {name: _plain(getattr(job, name)) for name in _SHOWN}


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _execution_id(request: Request) -> ExecutionId | None:
    text = str(request.path_params["execution_id"])
    return ExecutionId(text) if is_execution_id(text) else None


def _not_found(message: str) -> Response:
    return JSONResponse({"message": message}, status_code=404)
