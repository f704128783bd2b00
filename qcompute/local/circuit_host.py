"""Where circuits lie until a miner fetches them: a host with URLs that look presigned."""

from __future__ import annotations

import secrets

from aiohttp import web

from qcompute.local.service import LocalService


class CircuitHost(LocalService):
    """Serves texts under ids."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: dict[str, tuple[str, str]] = {}

    def routes(self) -> list[web.RouteDef]:
        """One route."""
        return [web.get("/circuits/{name}", self._get)]

    def add(self, name: str, text: str) -> str:
        """Keep a text; returns the URL it is at."""
        signature = secrets.token_hex(16)
        self._texts[name] = (text, signature)
        return f"{self.url}/circuits/{name}?X-Amz-Signature={signature}"

    async def _get(self, request: web.Request) -> web.Response:
        text, signature = self._texts.get(request.match_info["name"], ("", ""))
        if not signature:
            raise web.HTTPNotFound
        if request.query.get("X-Amz-Signature") != signature:
            raise web.HTTPForbidden
        return web.Response(text=text, content_type="text/plain", charset="utf-8")
