"""Every way a call can end is an error of our tree, and a paid one is never unclear in the cheap direction."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from typing import Any

import httpx
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from qcompute.connections.credentials import Secret
from qcompute.errors import (
    AuthFailed,
    BadReply,
    ConfigError,
    QuotaSpent,
    Refused,
    SubmitUnknown,
    Unavailable,
    VendorError,
)
from qcompute.local.service import FaultKind
from qcompute.vendor import http
from qcompute.vendor.http import NOT_SENT, Timeouts, VendorHttp, retry_after_seconds, usual_words
from tests.doubles.vendor import VendorDouble, VendorJob

KEY = Secret("acme", "sk-very-secret")

NEVER_SENT: dict[type[httpx.TransportError], bool] = {
    httpx.TransportError: False,
    httpx.TimeoutException: False,
    httpx.ConnectTimeout: True,
    httpx.ReadTimeout: False,
    httpx.WriteTimeout: False,
    httpx.PoolTimeout: True,
    httpx.NetworkError: False,
    httpx.ConnectError: True,
    httpx.ReadError: False,
    httpx.WriteError: False,
    httpx.CloseError: False,
    httpx.ProxyError: True,
    httpx.ProtocolError: False,
    httpx.LocalProtocolError: True,
    httpx.RemoteProtocolError: False,
    httpx.UnsupportedProtocol: True,
}
"""Whether nothing can have left this machine when it is raised."""

paid_or_free = pytest.mark.parametrize("paid", [True, False], ids=["paid", "free"])


class Shop(VendorDouble):
    """Answers what it is told to, and remembers what it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.body: bytes = b'{"ok": true}'
        self.headers: dict[str, str] = {}
        self.seen: list[tuple[dict[str, str], bytes]] = []

    async def execute(self, job: VendorJob) -> Any:
        raise NotImplementedError

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/{path:.*}", self._answer)]

    async def _answer(self, request: web.Request) -> web.Response:
        self.seen.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status, body=self.body, headers=self.headers)


def client(url: str, **more: Any) -> VendorHttp:
    arguments: dict[str, Any] = {
        "headers": {"Authorization": f"Bearer {KEY.reveal()}"},
        "secrets": [KEY],
        "timeouts": Timeouts(connect_seconds=5, read_seconds=5, paid_read_seconds=5, body_seconds=5),
    }
    return VendorHttp("acme", url, **(arguments | more))


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as started:
        yield started


@pytest.fixture
def acme(shop: Shop) -> Iterator[VendorHttp]:
    made = client(shop.url)
    yield made
    made.close()


def answering(handler: Callable[[httpx.Request], httpx.Response]) -> VendorHttp:
    """A client whose network is a function."""
    made = client("http://acme.test")
    made.close()
    made._client = httpx.Client(base_url="http://acme.test", transport=httpx.MockTransport(handler))
    return made


@cache
def offline() -> VendorHttp:
    """A client that never calls."""
    made = client("http://acme.test")
    made.close()
    return made


def ends_in(made: VendorHttp, *, paid: bool) -> VendorError:
    with pytest.raises(VendorError) as caught:
        made.call("POST" if paid else "GET", "/jobs", paid=paid)
    assert KEY.reveal() not in f"{caught.value!s}{caught.value!r}{caught.value.vendor_code}"
    assert caught.value.__cause__ is None or KEY.reveal() not in repr(caught.value.__cause__)
    return caught.value


def below(base: type[httpx.TransportError]) -> Iterator[type[httpx.TransportError]]:
    yield base
    for child in base.__subclasses__():
        yield from below(child)


# ---- the road ----


def test_every_failure_httpx_knows_is_judged() -> None:
    """A new one in a new version fails here: say whether the request can have been sent."""
    known = {kind for kind in below(httpx.TransportError) if kind.__module__.startswith("httpx")}
    assert known == set(NEVER_SENT)
    assert {kind for kind, never in NEVER_SENT.items() if never} == set(NOT_SENT)


@paid_or_free
@pytest.mark.parametrize("kind", list(NEVER_SENT), ids=lambda kind: kind.__name__)
def test_a_failure_of_the_road(kind: type[httpx.TransportError], *, paid: bool) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise kind(f"{request.url} {KEY.reveal()}")

    error = ends_in(answering(fail), paid=paid)
    assert type(error) is (SubmitUnknown if paid and not NEVER_SENT[kind] else Unavailable)
    assert kind.__name__ in error.message


@paid_or_free
@pytest.mark.parametrize("kind", [httpx.DecodingError, httpx.InvalidURL, httpx.StreamConsumed], ids=str)
def test_what_is_no_transport_error_is_unclear_too(kind: Callable[..., Exception], *, paid: bool) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        del request
        raise kind() if kind is httpx.StreamConsumed else kind("odd")

    assert type(ends_in(answering(fail), paid=paid)) is (SubmitUnknown if paid else Unavailable)


@paid_or_free
def test_nobody_listens(shop: Shop, acme: VendorHttp, *, paid: bool) -> None:
    shop.call(shop.stop())
    assert type(ends_in(acme, paid=paid)) is Unavailable


@paid_or_free
@pytest.mark.parametrize("kind", [FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER, FaultKind.TRUNCATE])
def test_a_connection_that_is_cut(shop: Shop, acme: VendorHttp, kind: FaultKind, *, paid: bool) -> None:
    shop.fault("/jobs", kind)
    assert type(ends_in(acme, paid=paid)) is (SubmitUnknown if paid else Unavailable)
    assert len(shop.asked) == 1, "sent once"


@paid_or_free
def test_a_late_answer(shop: Shop, *, paid: bool) -> None:
    shop.fault("/jobs", FaultKind.DELAY, seconds=5)
    made = client(shop.url, timeouts=Timeouts(read_seconds=0.1, paid_read_seconds=0.1))
    assert type(ends_in(made, paid=paid)) is (SubmitUnknown if paid else Unavailable)
    made.close()


def test_a_paid_call_is_waited_for_longer(shop: Shop) -> None:
    shop.fault("/jobs", FaultKind.DELAY, seconds=0.3)
    made = client(shop.url, timeouts=Timeouts(read_seconds=0.1, paid_read_seconds=5))
    assert made.call("POST", "/jobs", paid=True).json == {"ok": True}
    made.close()


@paid_or_free
def test_a_body_that_does_not_end(shop: Shop, *, paid: bool) -> None:
    """Each byte comes in time; all of them never."""
    shop.body = b'{"text": "' + b"x" * 10_000 + b'"}'
    shop.fault("/jobs", FaultKind.DRIP, seconds=0.01)
    made = client(shop.url, timeouts=Timeouts(body_seconds=0.1))
    assert type(ends_in(made, paid=paid)) is (SubmitUnknown if paid else Unavailable)
    made.close()


# ---- what is answered ----


@paid_or_free
@pytest.mark.parametrize(
    ("status", "free", "paid_one"),
    [
        (300, Unavailable, SubmitUnknown),
        (301, Unavailable, SubmitUnknown),
        (307, Unavailable, SubmitUnknown),
        (400, Refused, Refused),
        (401, AuthFailed, AuthFailed),
        (402, QuotaSpent, QuotaSpent),
        (403, AuthFailed, AuthFailed),
        (404, Refused, Refused),
        (405, Refused, Refused),
        (408, Unavailable, SubmitUnknown),
        (409, Refused, Refused),
        (413, Refused, Refused),
        (422, Refused, Refused),
        (429, Unavailable, Unavailable),
        (500, Unavailable, SubmitUnknown),
        (502, Unavailable, SubmitUnknown),
        (503, Unavailable, SubmitUnknown),
        (504, Unavailable, SubmitUnknown),
        (520, Unavailable, SubmitUnknown),
    ],
)
def test_a_status(
    shop: Shop,
    acme: VendorHttp,
    *,
    status: int,
    free: type[VendorError],
    paid_one: type[VendorError],
    paid: bool,
) -> None:
    shop.status, shop.headers = status, {"Retry-After": "7", "Location": f"{shop.url}/elsewhere"}
    shop.body = json.dumps({"code": "E1", "message": f"no, {KEY.reveal()}\r\n\x1b[31m!"}).encode()
    error = ends_in(acme, paid=paid)
    assert type(error) is (paid_one if paid else free)
    assert error.message == f"acme answered {status}: no, *** [31m!"
    assert error.vendor_code == "E1"
    if isinstance(error, Unavailable):
        assert error.retry_after_seconds == (7 if status >= 400 else None)
    assert len(shop.asked) == 1, "neither repeated nor redirected"


def test_a_refusal_without_a_code_has_its_status(shop: Shop, acme: VendorHttp) -> None:
    shop.status, shop.body = 422, b"[]"
    assert ends_in(acme, paid=True).vendor_code == "http_422"


def test_statuses_that_are_answers(shop: Shop, acme: VendorHttp) -> None:
    shop.status = 404
    reply = acme.get("/jobs", accept=[404])
    assert (reply.status, reply.json) == (404, {"ok": True})


@paid_or_free
@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("page", [b"<html>Maintenance</html>", b"\n  <!DOCTYPE html><p>soon"])
def test_a_web_page_is_no_answer(shop: Shop, acme: VendorHttp, page: bytes, status: int, *, paid: bool) -> None:
    shop.status, shop.body = status, page
    assert type(ends_in(acme, paid=paid)) is (SubmitUnknown if paid else Unavailable)


@paid_or_free
@pytest.mark.parametrize("body", [b"OK", b'{"half": ', b"\xff\xfe\x00", b"[" * 100_000, b"9" * 5000])
def test_what_is_not_json(shop: Shop, acme: VendorHttp, body: bytes, *, paid: bool) -> None:
    shop.body = body
    error = ends_in(acme, paid=paid)
    assert type(error) is (SubmitUnknown if paid else BadReply)
    assert "not JSON" in error.message


def test_an_error_s_body_may_be_anything(shop: Shop, acme: VendorHttp) -> None:
    shop.status = 400
    for body in (b"", b"nope", b"[" * 100_000, b"null", b'"text"', b"{}"):
        shop.body = body
        assert ends_in(acme, paid=True).message == "acme answered 400"


@paid_or_free
def test_too_much(shop: Shop, acme: VendorHttp, monkeypatch: pytest.MonkeyPatch, *, paid: bool) -> None:
    monkeypatch.setattr(http, "MAX_REPLY_BYTES", 1000)
    shop.body = b'"' + b"x" * 2000 + b'"'
    error = ends_in(acme, paid=paid)
    assert type(error) is (SubmitUnknown if paid else BadReply)
    assert "1000 bytes" in error.message


def test_a_compressed_bomb_is_too_much(shop: Shop, acme: VendorHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_REPLY_BYTES", 1000)
    shop.body, shop.headers = gzip.compress(b" " * 100_000), {"Content-Encoding": "gzip"}
    assert type(ends_in(acme, paid=False)) is BadReply


@paid_or_free
def test_a_body_that_cannot_be_unpacked(shop: Shop, acme: VendorHttp, *, paid: bool) -> None:
    shop.body, shop.headers = b"no gzip at all", {"Content-Encoding": "gzip"}
    assert type(ends_in(acme, paid=paid)) is (SubmitUnknown if paid else Unavailable)


@paid_or_free
def test_an_empty_answer_is_none(shop: Shop, acme: VendorHttp, *, paid: bool) -> None:
    shop.status, shop.body = 204, b""
    assert acme.call("POST", "/jobs", paid=paid).json is None


# ---- what is sent ----


def test_what_a_request_carries(shop: Shop, acme: VendorHttp) -> None:
    acme.call("POST", "/jobs", body={"shots": 3}, headers={"Idempotency-Key": "one"})
    acme.get("/jobs", params={"a": "b c"})
    (first, body), (second, _) = shop.seen
    assert json.loads(body) == {"shots": 3}
    assert first["Authorization"] == f"Bearer {KEY.reveal()}"
    assert first["User-Agent"] == http.USER_AGENT
    assert first["Idempotency-Key"] == "one"
    assert "Idempotency-Key" not in second, "it belongs to one call"


def test_the_environment_s_proxy_is_not_used(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    made = client(shop.url)
    assert made.get("/jobs").json == {"ok": True}
    made.close()


@pytest.mark.parametrize("value", ["sk\nX-Evil: 1", "sk-é", "", " sk", "sk "])
def test_a_credential_no_header_can_carry(value: str) -> None:
    with pytest.raises(ConfigError, match="Authorization") as caught:
        client("http://acme.test", headers={"Authorization": value})
    assert value.strip() == "" or value.strip() not in str(caught.value)


def test_it_does_not_show_what_it_holds(acme: VendorHttp) -> None:
    assert repr(acme) == str(acme) == "VendorHttp('acme')"


def test_a_text_is_made_fit_for_a_log(acme: VendorHttp) -> None:
    assert acme.scrubbed(f" {KEY.reveal()}\t\N{BOMB}line\n2 ") == "*** line 2"
    assert len(acme.scrubbed("x" * 1000)) == http.MAX_TEXT
    cut = acme.scrubbed("x" * (http.MAX_TEXT - 4) + KEY.reveal())
    assert KEY.reveal()[:4] not in cut, "a secret is cut out before the text is cut short"


@given(st.text())
def test_no_text_gets_through_unprintable(text: str) -> None:
    shown = offline().scrubbed(text + KEY.reveal() + text)
    assert shown.isascii()
    assert shown.isprintable()
    assert KEY.reveal() not in shown
    assert len(shown) <= http.MAX_TEXT


# ---- words, waits, models ----


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"code": 7, "message": "m"}, "7", "m"),
        ({"error": {"code": "E", "message": "m"}, "code": "outer"}, "E", "m"),
        ({"error": "text"}, None, "text"),
        ({"error": "text", "message": "better"}, None, "better"),
        ({}, None, None),
        ({"error": None, "message": 5}, None, "5"),
        ({"error": []}, None, None),
    ],
)
def test_the_usual_places_of_a_vendor_s_words(body: dict[str, Any], code: str | None, message: str | None) -> None:
    assert usual_words(body) == (code, message)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("²", None),
        ("9" * 400, None),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 99999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2030 00:00:00 +99999999999999999999", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after_seconds({"Retry-After": text}) == seconds
    assert retry_after_seconds({"retry-after": text}) == seconds


@pytest.mark.parametrize("usegmt", [True, False])
def test_retry_after_a_date(*, usegmt: bool) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=100)
    text = format_datetime(moment, usegmt=usegmt)
    seconds = retry_after_seconds({"Retry-After": text if usegmt else text.replace("+0000", "-0000")})
    assert seconds is not None
    assert 90 < seconds <= 100


def test_no_retry_after() -> None:
    assert retry_after_seconds({}) is None


@given(st.text())
def test_no_retry_after_is_too_odd(text: str) -> None:
    seconds = retry_after_seconds({"Retry-After": text})
    assert seconds is None or 0 <= seconds < float("inf")


class Job(BaseModel):
    id: str
    shots: list[int]


def test_a_model_ignores_what_it_does_not_know() -> None:
    assert http.Reply(200, {"id": "a", "shots": [1], "new": 2}).read(Job, what="job") == Job(id="a", shots=[1])


@pytest.mark.parametrize(
    ("value", "field"), [({"id": "a", "shots": [1, "x"]}, "shots.1"), ({"id": "a"}, "shots"), (None, "the whole")]
)
def test_a_model_that_does_not_fit_names_the_place(value: Any, field: str) -> None:
    with pytest.raises(BadReply) as caught:
        http.read(Job, value, what="job")
    assert caught.value.field == field
    assert caught.value.message.startswith(f"job: {field}: ")


def test_a_long_complaint_is_cut() -> None:
    with pytest.raises(BadReply) as caught:
        http.read(Job, None, what="j" * 1000)
    assert len(caught.value.message) == http.MAX_TEXT
