"""Presigned uploads, as an S3-like store has them: whoever has the URL may PUT, until it expires."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from qcompute.local.service import LocalService
from qcompute.units import Counts

_KEY = re.compile(r"[01]+")


@dataclass(frozen=True, slots=True)
class Put:
    """One PUT that was accepted."""

    upload_id: str
    counts: Counts


class ObjectStore(LocalService):
    """Takes counts, and only counts, on URLs that live ``url_seconds``."""

    def __init__(self, *, url_seconds: float = 300) -> None:
        super().__init__()
        self.url_seconds = url_seconds
        self.puts: list[Put] = []
        self.objects: dict[str, Counts] = {}
        self._secret = secrets.token_bytes(16)

    def routes(self) -> list[web.RouteDef]:
        """One route."""
        return [web.put("/bucket/{upload_id}", self._put)]

    def presigned(self, upload_id: str) -> str:
        """A URL that one upload may be PUT to."""
        expires = f"{time.time() + self.url_seconds:.3f}"
        return f"{self.url}/bucket/{upload_id}?X-Amz-Expires={expires}&X-Amz-Signature={self._sign(upload_id, expires)}"

    def _sign(self, upload_id: str, expires: str) -> str:
        return hmac.new(self._secret, f"{upload_id}\n{expires}".encode(), hashlib.sha256).hexdigest()

    async def _put(self, request: web.Request) -> web.Response:
        upload_id = request.match_info["upload_id"]
        expires, signature = request.query.get("X-Amz-Expires", ""), request.query.get("X-Amz-Signature", "")
        if not hmac.compare_digest(signature, self._sign(upload_id, expires)) or float(expires) < time.time():
            raise web.HTTPForbidden(text="<Error><Code>AccessDenied</Code></Error>", content_type="application/xml")
        if "Authorization" in request.headers or request.content_type != "application/json":
            raise web.HTTPBadRequest(text="<Error><Code>InvalidRequest</Code></Error>", content_type="application/xml")
        counts = _counts(await request.read())
        if counts is None:
            raise web.HTTPBadRequest(text="<Error><Code>InvalidCounts</Code></Error>", content_type="application/xml")
        if self.objects.setdefault(upload_id, counts) != counts:
            raise web.HTTPConflict(text="<Error><Code>Different</Code></Error>", content_type="application/xml")
        self.puts.append(Put(upload_id, counts))
        return web.Response()


def _counts(body: bytes) -> Counts | None:
    try:
        counts: Any = json.loads(body)
        valid = all(_KEY.fullmatch(key) and type(value) is int and value >= 0 for key, value in counts.items())
    except (ValueError, AttributeError, TypeError):
        return None
    return counts if valid and counts else None
