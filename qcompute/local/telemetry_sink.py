"""``POST /v1/datapoints``: takes telemetry in the reference's format and keeps it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qcompute.local.service import LocalService
from qcompute.local.token_service import TokenService


class Datapoint(BaseModel):
    """One datapoint as the service takes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    timestamp: datetime
    miner_uid: int | None = None
    miner_hotkey: str | None = None
    numeric_value: float | None = None
    string_value: str | None = None
    attributes: dict[str, Any] | None = None


class _Batch(BaseModel):
    datapoints: list[Datapoint] = Field(max_length=10)


class TelemetrySink(LocalService):
    """Keeps every datapoint."""

    def __init__(self, tokens: TokenService) -> None:
        super().__init__()
        self.points: list[Datapoint] = []
        self._tokens = tokens

    def routes(self) -> list[web.RouteDef]:
        """One route."""
        return [web.post("/v1/datapoints", self._post)]

    async def _post(self, request: web.Request) -> web.Response:
        self._tokens.caller(request)
        if "X-Service-Name" not in request.headers or "X-Network" not in request.headers:
            raise web.HTTPBadRequest
        try:
            batch = _Batch.model_validate_json(await request.read())
        except ValidationError:
            raise web.HTTPUnprocessableEntity from None
        self.points += batch.datapoints
        return web.json_response({})
