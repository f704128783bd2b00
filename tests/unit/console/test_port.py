"""The operator port: who is let in, what every answer carries, what is refused at start."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from qcompute.console.guard import HEADERS
from qcompute.console.operator_token import operator_token
from qcompute.console.port import OperatorPort, operator_url, port_file, url_of
from qcompute.console.sessions import COOKIE, MOST_FAILURES, Sessions
from qcompute.errors import ConfigError
from qcompute.ledger.memory import MemoryLedger
from qcompute.miner.operator import operator_app
from qcompute.miner.watching import OperatorSettings

TOKEN = "0123456789abcdef0123456789abcdef"
ANY = "0.0.0.0"  # noqa: S104 - refused, or only compared
AXON = (ANY, 8091)


def _sessions(settings: OperatorSettings, ledger: Path) -> Sessions:
    return Sessions(operator_token(settings, ledger), to_look=settings.token is not None)


async def _health() -> dict[str, object]:
    return {"status": "ok"}


async def _own(request: Request) -> Response:
    return PlainTextResponse(f"own {request.method}", headers={"Cache-Control": "max-age=60"})


@asynccontextmanager
async def serving(folder: Path, **settings: object) -> AsyncGenerator[httpx.AsyncClient]:
    chosen = OperatorSettings.model_validate({"port": 0} | settings)
    port = OperatorPort(
        chosen,
        operator_app(MemoryLedger(), _health),
        _sessions(chosen, folder / "ledger"),
        port_file=port_file(folder / "ledger"),
        axon=AXON,
        routes=[Route("/own", _own, methods=["GET", "POST"]), Route("/assets/x", _own)],
        open_paths=("/assets/",),
    )
    await port.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port.port}") as client:
            yield client
    finally:
        await port.stop()


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("QCOMPUTE_SECRET_OPERATOR", TOKEN)
    return TOKEN


async def test_routes_handed_over_come_before_the_base_and_every_answer_is_sealed(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        answers = [await client.get(path) for path in ("/health", "/own", "/nothing", "/jobs/x")]
        assert [answer.status_code for answer in answers] == [200, 200, 404, 404]
        for answer in answers:
            missing = {name for name in HEADERS if name not in answer.headers}
            assert not missing, answer.url
        assert answers[1].headers["cache-control"] == "max-age=60", "an answer's own header stays"
        assert answers[0].headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8092", "127.0.0.1.evil.example", "", "[", "169.254.1.1"]
)
async def test_a_page_whose_name_was_made_to_point_here_is_refused(tmp_path: Path, host: str) -> None:
    """DNS rebinding: the browser believes that the answer is of that page's own site, and hands it over."""
    async with serving(tmp_path) as client:
        for path in ("/health", "/own", "/assets/x"):
            answer = await client.get(path, headers={"Host": host})
            assert answer.status_code in {400, 421}, path
            assert "own" not in answer.text.split()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8092", "[::1]:8092", "miner.lan"])
async def test_loopback_under_any_of_its_names_and_those_allowed_is_let_in(tmp_path: Path, host: str) -> None:
    async with serving(tmp_path, allowed_hosts=["Miner.lan"]) as client:
        assert (await client.get("/own", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
    ],
)
async def test_what_changes_anything_comes_from_a_page_of_ours_or_from_no_page(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    async with serving(tmp_path) as client:
        assert (await client.post("/own", headers=headers)).status_code == status
        same = {"Origin": str(client.base_url).rstrip("/")}
        assert (await client.post("/own", headers=same)).status_code == 200


async def test_a_token_that_is_set_is_asked_for_even_on_loopback(tmp_path: Path, token: str) -> None:
    async with serving(tmp_path, token="operator") as client:
        for path in ("/health", "/own", "/nothing"):
            refusal = await client.get(path)
            assert (refusal.status_code, refusal.headers["www-authenticate"]) == (401, "Bearer")
            assert token not in refusal.text
        for wrong in ("Bearer", "Bearer x", f"Basic {token}", f"Bearer {token}x", "Bearer ä".encode()):
            assert (await client.get("/own", headers={b"Authorization": wrong})).status_code == 401  # pyright: ignore[reportArgumentType]
        assert (await client.get("/own", headers={"Authorization": f"Bearer {token}"})).status_code == 200
        assert (await client.get("/assets/x")).status_code == 200, "a login page's own files"


async def test_a_browser_shows_the_token_once(tmp_path: Path, token: str) -> None:
    async with serving(tmp_path, token="operator") as client:
        for wrong in (
            b"{}",
            b"[]",
            b"no json",
            b'{"token": 1}',
            b'{"token": "\\ud800"}',
            json.dumps({"token": "x" * 5000}).encode(),
        ):
            assert (await client.post("/session", content=wrong)).status_code == 401
        shown = await client.post("/session", json={"token": token})
        assert shown.status_code == 204
        cookie = shown.headers["set-cookie"]
        assert all(word in cookie for word in (COOKIE, "HttpOnly", "SameSite=strict", "Path=/"))
        assert token not in cookie
        assert (await client.get("/own")).status_code == 200, "the client keeps the cookie"
        kept = client.cookies[COOKIE]
        await client.delete("/session")
        assert (await client.get("/own")).status_code == 401
        stolen = {"Cookie": f"{COOKIE}={kept}"}
        assert (await client.get("/own", headers=stolen)).status_code == 401, "it ended here, not in the browser alone"
        name, _, proof = kept.partition(".")
        for forged in ("", ".", f"{name}.", f"{name}x.{proof}", f"{proof}.{name}"):
            assert (await client.get("/own", headers={"Cookie": f"{COOKIE}={forged}"})).status_code == 401, forged


async def test_behind_tls_the_cookie_is_never_sent_without_it(tmp_path: Path, token: str) -> None:
    async with serving(tmp_path, token="operator") as client:
        shown = await client.post("/session", json={"token": token}, headers={"X-Forwarded-Proto": "https"})
        assert "Secure" in shown.headers["set-cookie"]


async def test_tokens_are_not_guessed_at_leisure(tmp_path: Path, token: str) -> None:
    """``POST /session`` took any number of guesses, while the dashboard's form counted them."""
    async with serving(tmp_path, token="operator") as client:
        for _ in range(MOST_FAILURES):
            assert (await client.post("/session", json={"token": "guess"})).status_code == 401
        assert (await client.post("/session", json={"token": token})).status_code == 429
        assert (await client.get("/own", headers={"Authorization": f"Bearer {token}"})).status_code == 200


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def _port(ledger: Path, settings: OperatorSettings, axon: tuple[str, int] = AXON) -> OperatorPort:
    app = operator_app(MemoryLedger(), _health)
    return OperatorPort(settings, app, _sessions(settings, ledger), port_file=port_file(ledger), axon=axon)


@pytest.mark.parametrize("host", [ANY, "::", "192.0.2.1", "miner.example"])
def test_bound_elsewhere_it_needs_a_token(ledger: Path, host: str, token: str) -> None:
    del token
    with pytest.raises(ConfigError, match=r"set operator\.token"):
        _port(ledger, OperatorSettings(host=host))
    _port(ledger, OperatorSettings(host=host, token="operator"))


def test_a_token_that_can_be_guessed_is_refused(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_OPERATOR", "hunter2")
    with pytest.raises(ConfigError, match="fewer than 16 characters") as refused:
        _port(ledger, OperatorSettings(token="operator"))
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize(
    ("host", "axon"), [("127.0.0.1", (ANY, 8092)), ("127.0.0.1", ("127.0.0.1", 8092)), ("::1", (ANY, 8092))]
)
def test_the_axon_s_port_is_refused(ledger: Path, host: str, axon: tuple[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"axon\.port"):
        _port(ledger, OperatorSettings(host=host), axon)


async def test_a_taken_port_is_one_message_that_names_the_setting(ledger: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"{number}.*in use; set --operator.host and --operator.port"):
            await _port(ledger, OperatorSettings(port=number)).start()


async def test_where_it_serves_is_found_until_it_stops(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    assert operator_url(ledger) is None
    async with serving(tmp_path) as client:
        assert operator_url(ledger) == str(client.base_url).rstrip("/")
        assert stat.S_IMODE(port_file(ledger).stat().st_mode) == 0o600
    assert operator_url(ledger) is None
    assert not port_file(ledger).exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pid": "x", "url": "y"}', '{"pid": 4194305, "url": "http://x"}'])
def test_what_a_killed_daemon_left_behind_is_not_found(tmp_path: Path, text: str) -> None:
    port_file(tmp_path / "ledger").write_text(text)
    assert operator_url(tmp_path / "ledger") is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        (ANY, "http://127.0.0.1:1"),
        ("::1", "http://[::1]:1"),
        ("::", "http://127.0.0.1:1"),
    ],
)
def test_the_address_for_programs_on_this_machine(host: str, url: str) -> None:
    assert url_of(host, 1) == url


def test_this_process_is_alive_for_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process id of a killed daemon may be another user's by now."""
    port_file(tmp_path / "ledger").write_text(json.dumps({"pid": os.getpid(), "url": "http://127.0.0.1:1"}))
    assert operator_url(tmp_path / "ledger") == "http://127.0.0.1:1"

    def not_ours(pid: int, number: int) -> None:
        raise PermissionError(pid, number)

    monkeypatch.setattr(os, "kill", not_ours)
    assert operator_url(tmp_path / "ledger") is None
