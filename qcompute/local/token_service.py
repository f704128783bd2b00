"""``GET /token``: a bearer token for whoever signed a claim with a hotkey. Tokens expire; others can check them."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import time
from typing import Any

from aiohttp import web

from qcompute.chain.keys import verify_signature
from qcompute.local.service import LocalService
from qcompute.units import Hotkey


class TokenService(LocalService):
    """Issues tokens that live ``lifetime_seconds``."""

    def __init__(self, *, lifetime_seconds: int = 3600) -> None:
        super().__init__()
        self.lifetime_seconds = lifetime_seconds
        self._tokens: dict[str, tuple[Hotkey, float]] = {}

    def routes(self) -> list[web.RouteDef]:
        """One route."""
        return [web.get("/token", self._issue)]

    def caller(self, request: web.Request) -> Hotkey:
        """Who sent a request to one of the platform's servers; raises 401."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        hotkey, until = self._tokens.get(token, (None, 0.0))
        if scheme != "Bearer" or hotkey is None or until < time.monotonic():
            raise web.HTTPUnauthorized(text='{"error": "token"}', content_type="application/json")
        return hotkey

    def revoke_all(self) -> None:
        """Make every token issued so far worthless."""
        self._tokens.clear()

    async def _issue(self, request: web.Request) -> web.Response:
        hotkey = _claimant(request.headers.get("Authorization", ""))
        if hotkey is None:
            raise web.HTTPUnauthorized(text='{"error": "claim"}', content_type="application/json")
        token = f"tok-{secrets.token_hex(16)}"
        self._tokens[token] = (hotkey, time.monotonic() + self.lifetime_seconds)
        return web.json_response({"access_token": token, "expires_in": self.lifetime_seconds, "token_type": "Bearer"})


def _claimant(authorization: str) -> Hotkey | None:
    try:
        claim: Any = json.loads(base64.b64decode(authorization.removeprefix("Bearer "), validate=True))
        hotkey, signature = Hotkey(claim["hotkey"]), base64.b64decode(claim["signature"], validate=True)
        int(claim["timestamp"])
        known_subnet = claim["subnet"] == 48  # noqa: PLR2004 - the subnet
    except (ValueError, KeyError, TypeError, binascii.Error):
        return None
    return hotkey if known_subnet and verify_signature(hotkey.encode(), signature, hotkey) else None
