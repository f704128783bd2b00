"""One token for all, renewed in time, and a token service that is down is not hammered."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from qcompute.chain.keys import verify_signature
from qcompute.errors import DeliveryError
from qcompute.jobserver.token import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, TokenSource
from tests.unit.jobserver.platform import SIGNER
from tests.unit.jobserver.scripted import Scripted, cut, in_turn, says, scripted


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def source() -> AsyncGenerator[tuple[Scripted, TokenSource, Clock], None]:
    async with scripted() as server:
        clock = Clock()
        tokens = TokenSource(server.settings(), SIGNER, monotonic=clock, unix=lambda: 1795224936.773)
        try:
            yield server, tokens, clock
        finally:
            await tokens.close()


def token(text: str, lifetime: object) -> Any:
    return says(200, json.dumps({"access_token": text, "expires_in": lifetime, "token_type": "bearer"}))


async def test_nothing_is_asked_before_a_token_is_needed() -> None:
    async with source() as (server, _, _):
        assert server.heard == []


async def test_the_claim_is_signed_by_the_hotkey() -> None:
    async with source() as (server, tokens, _):
        await tokens.get()
        (heard,) = server.heard
        scheme, _, text = heard.headers["authorization"].partition(" ")
        claim = json.loads(base64.b64decode(text, validate=True))
        assert (heard.method, heard.target, scheme) == ("GET", "/token", "Bearer")
        assert list(claim) == ["hotkey", "timestamp", "signature", "subnet"]
        assert (claim["hotkey"], claim["timestamp"], claim["subnet"]) == (SIGNER.hotkey, "1795224936", 48)
        signature = base64.b64decode(claim["signature"], validate=True)
        assert verify_signature(SIGNER.hotkey.encode(), signature, SIGNER.hotkey)


@pytest.mark.parametrize(("lifetime", "good_for"), [(3600, 3540), (600, 540), (300, 240), (100, 80), (10, 8)])
async def test_a_token_is_renewed_a_minute_or_a_fifth_before_it_expires(lifetime: int, good_for: int) -> None:
    async with source() as (server, tokens, clock):
        server.answers["GET /token"] = in_turn(token("one", lifetime), token("two", lifetime))
        assert await tokens.get() == "one"
        clock.now += good_for - 0.5
        assert await tokens.get() == "one"
        clock.now += 1
        assert await tokens.get() == "two"


async def test_concurrent_callers_share_one_request() -> None:
    async with source() as (server, tokens, _):
        assert await asyncio.gather(*(tokens.get() for _ in range(50))) == ["token-1"] * 50
        assert len(server.heard) == 1


async def test_a_failure_is_shared_and_the_service_then_left_alone() -> None:
    async with source() as (server, tokens, clock):
        server.answers["GET /token"] = says(503)
        results = await asyncio.gather(*(tokens.get() for _ in range(50)), return_exceptions=True)
        assert all(isinstance(result, DeliveryError) for result in results)
        with pytest.raises(DeliveryError, match="a moment ago") as caught:
            await tokens.get()
        assert 0 < (caught.value.retry_after_seconds or 0) <= FIRST_PAUSE_SECONDS
        assert len(server.heard) == 1
        del server.answers["GET /token"]
        clock.now += FIRST_PAUSE_SECONDS
        assert await tokens.get() == "token-1"


async def test_pauses_grow_to_their_limit_and_one_line_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with source() as (server, tokens, clock):
        server.answers["GET /token"] = cut
        pauses: list[float] = []
        for _ in range(10):
            with pytest.raises(DeliveryError, match=r"GET token failed \(ConnectionLost\)"):
                await tokens.get()
            with pytest.raises(DeliveryError) as caught:
                await tokens.get()
            pauses.append(caught.value.retry_after_seconds or 0)
            clock.now += LONGEST_PAUSE_SECONDS
        del server.answers["GET /token"]
        await tokens.get()
        assert pauses[0] <= FIRST_PAUSE_SECONDS
        assert LONGEST_PAUSE_SECONDS / 2 <= pauses[-1] <= LONGEST_PAUSE_SECONDS
        assert len(server.heard) == 11
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.parametrize(("asked", "waited"), [("30", 30.0), ("99999", LONGEST_PAUSE_SECONDS)])
async def test_the_service_may_ask_for_a_longer_pause(asked: str, waited: float) -> None:
    async with source() as (server, tokens, _):
        server.answers["GET /token"] = says(429, Retry_After=asked)
        with pytest.raises(DeliveryError):
            await tokens.get()
        with pytest.raises(DeliveryError) as caught:
            await tokens.get()
        assert caught.value.retry_after_seconds == waited


async def test_only_the_refused_token_is_thrown_away() -> None:
    async with source() as (server, tokens, _):
        first = await tokens.get()
        tokens.invalidate("some other token")
        assert await tokens.get() == first
        tokens.invalidate(first)
        assert await tokens.get() == "token-2"
        tokens.invalidate(first)
        assert await tokens.get() == "token-2"
        assert len(server.heard) == 2


@pytest.mark.parametrize(
    "text",
    [
        "<html>maintenance</html>",
        "[]",
        "{}",
        "[" * 60_000,
        "x" * 70_000,
        '{"access_token": null, "expires_in": 60}',
        '{"access_token": "", "expires_in": 60}',
        '{"access_token": 5, "expires_in": 60}',
        '{"access_token": "a\\r\\nX-Evil: 1", "expires_in": 60}',
        '{"access_token": "t", "expires_in": null}',
        '{"access_token": "t", "expires_in": NaN}',
        '{"access_token": "t", "expires_in": Infinity}',
        '{"access_token": "t", "expires_in": 1' + "0" * 400 + "}",
        '{"access_token": "t"}',
    ],
    ids=lambda text: str(text)[:24],
)
async def test_an_answer_that_is_no_token_is_a_failure_like_any_other(text: str) -> None:
    async with source() as (server, tokens, clock):
        server.answers["GET /token"] = in_turn(says(200, text), token("good", 3600))
        with pytest.raises(DeliveryError, match="GET token answered") as caught:
            await tokens.get()
        assert len(str(caught.value)) < 80
        clock.now += FIRST_PAUSE_SECONDS
        assert await tokens.get() == "good"


async def test_a_redirect_of_the_claim_is_not_followed() -> None:
    async with source() as (server, tokens, _):
        server.answers["GET /token"] = says(302, Location="/elsewhere")
        with pytest.raises(DeliveryError, match="302"):
            await tokens.get()
        assert [heard.target for heard in server.heard] == ["/token"]


async def test_a_caller_that_gives_up_does_not_take_the_answer_from_others() -> None:
    async with source() as (server, tokens, _):
        come, go = asyncio.Event(), asyncio.Event()

        async def slow(request: web.Request) -> web.StreamResponse:
            come.set()
            await go.wait()
            return await token("one", 3600)(request)

        server.answers["GET /token"] = slow
        first, second = asyncio.create_task(tokens.get()), asyncio.create_task(tokens.get())
        async with asyncio.timeout(5):
            await come.wait()
            first.cancel()
            go.set()
            assert await second == "one"
        assert first.cancelled()
        assert len(server.heard) == 1


async def test_closing_ends_a_request_under_way_with_an_error_not_a_cancellation() -> None:
    async with source() as (server, tokens, _):
        come = asyncio.Event()

        async def hanging(_: web.Request) -> web.StreamResponse:
            come.set()
            await asyncio.Event().wait()
            raise web.HTTPServiceUnavailable

        server.answers["GET /token"] = hanging
        waiting = asyncio.create_task(tokens.get())
        async with asyncio.timeout(5):
            await come.wait()
            await tokens.close()
            with pytest.raises(DeliveryError, match="closed"):
                await waiting
        await tokens.close()


async def test_the_token_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with source() as (server, tokens, _):
        server.answers["GET /token"] = token("hush-hush", 3600)
        assert await tokens.get() == "hush-hush"
        assert "hush" not in repr(tokens) + repr(vars(tokens)) + caplog.text
