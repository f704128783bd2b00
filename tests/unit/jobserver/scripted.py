"""A server that answers what the test says, keeps what it was asked, and can misbehave below HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from qcompute.jobserver import JobServerSettings

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

TOKEN_LIFETIME_SECONDS = 3600


@dataclass(frozen=True)
class Heard:
    """One request as it came in; ``target`` is the raw path with the query, nothing decoded."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Scripted:
    """Answers ``"METHOD /path"`` by ``answers``; ``GET /token`` gives tokens unless the test says otherwise."""

    url: str = ""
    heard: list[Heard] = field(default_factory=list[Heard])
    answers: dict[str, Answer] = field(default_factory=dict[str, Answer])
    tokens_given: int = 0

    def asked(self, start: str) -> list[Heard]:
        return [heard for heard in self.heard if f"{heard.method} {heard.target}".startswith(start)]

    def settings(self, **changes: Any) -> JobServerSettings:
        base = {
            "url": self.url,
            "tensorauth_url": self.url,
            "metrics_api_url": self.url,
            "request_timeout_seconds": 2,
            "upload_timeout_seconds": 2,
        }
        return JobServerSettings.model_validate(base | changes)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.heard.append(Heard(request.method, request.raw_path, headers, await request.read()))
        answer = self.answers.get(f"{request.method} {request.path}")
        if answer is not None:
            return await answer(request)
        if request.path == "/token":
            self.tokens_given += 1
            return web.json_response(
                {"access_token": f"token-{self.tokens_given}", "expires_in": TOKEN_LIFETIME_SECONDS}
            )
        return web.json_response({})


@asynccontextmanager
async def scripted() -> AsyncGenerator[Scripted, None]:
    server = Scripted()
    app = web.Application(client_max_size=4 << 20)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


def says(status: int = 200, text: str = "{}", **headers: str) -> Answer:
    """Always the same answer; ``Retry_After`` in ``headers`` stands for ``Retry-After``."""

    async def answer(_: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, headers=named)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """One answer after the other; the last one stays."""
    left = list(answers)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await (left.pop(0) if len(left) > 1 else left[0])(request)

    return answer


def never_ends(status: int) -> Answer:
    """A status, then a body without an end, as fast as it is taken."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 16384)
        except ConnectionError:
            return response

    return answer


async def cut(request: web.Request) -> web.StreamResponse:
    """The request was heard; the connection goes away instead of an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
