"""The pages without a browser: who may do what, what is refused, and that no stranger's word is taken for ours."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Final

import httpx
import pytest
from starlette.applications import Starlette

from qcompute.axon.visitors import MOST_REASONS, MOST_VISITORS, OTHER_REASONS, Visitors
from qcompute.connections.credentials import Secret
from qcompute.console.dashboard import assets, live, pages, shown
from qcompute.console.dashboard.facts import AccountState
from qcompute.console.dashboard.headers import CONTENT_SECURITY_POLICY
from qcompute.console.dashboard.listing import LOOK, listed
from qcompute.console.dashboard.live import MOVED, Pulse
from qcompute.console.operator_token import kept_token
from qcompute.console.port import OperatorPort
from qcompute.console.sessions import COOKIE, MOST_FAILURES, SESSION_SECONDS, Sessions
from qcompute.errors import ConfigError, NotAllowed
from qcompute.miner.commands import Adopt, Cancel, Fail, Release, RetryDelivery
from qcompute.miner.heartbeat import DeviceReport
from qcompute.miner.job import State
from qcompute.miner.operator import operator_app
from qcompute.miner.providers.base import AvailabilityStatus, Capability, Device
from qcompute.miner.watching import OperatorSettings
from qcompute.testing.ledger_records import brought_to
from qcompute.units import Hotkey
from tests.dashboard.filled import HOSTILE
from tests.dashboard.told import ToldFacts
from tests.scene import until_true

TOKEN: Final = "the-operators-own-token"
OURS: Final = {"Origin": "http://operator", "Sec-Fetch-Site": "same-origin"}
TEMPLATES: Final = Path(pages.__file__).parent / "templates"


@pytest.fixture
def facts() -> ToldFacts:
    return ToldFacts()


def browser(facts: ToldFacts, *, to_look: bool = False) -> httpx.AsyncClient:
    app = Starlette(routes=pages.routes(facts, Sessions(Secret("operator", TOKEN), to_look=to_look)))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://operator", headers=OURS)


@pytest.fixture
async def client(facts: ToldFacts) -> AsyncIterator[httpx.AsyncClient]:
    await brought_to(facts.ledger, "held", State.HELD)
    await brought_to(facts.ledger, "done", State.CLOSED)
    async with browser(facts) as client:
        yield client


def form_token(page: httpx.Response) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page.text)
    assert found is not None, page.text
    return found[1]


async def signed_in(client: httpx.AsyncClient, token: str = TOKEN) -> httpx.Response:
    page = await client.get("/dashboard/login")
    return await client.post("/dashboard/login", data={"form_token": form_token(page), "token": token})


VIEWS: Final = (
    "",
    "jobs",
    "jobs/held",
    "jobs/done",
    "jobs/held/circuit",
    "devices",
    "connections",
    "validators",
    "login",
)


@pytest.mark.parametrize("view", VIEWS)
async def test_every_page_forbids_what_is_not_its_own(client: httpx.AsyncClient, view: str) -> None:
    page = await client.get(f"/dashboard/{view}")
    assert page.status_code == 200
    assert page.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert 'rel="stylesheet"' in page.text
    part = await client.get(f"/dashboard/{view}", headers={"HX-Request": "true"})
    assert part.status_code == 200
    assert "<html" not in part.text


def test_no_template_has_a_script_a_style_or_a_stranger_s_address_in_it() -> None:
    for file in TEMPLATES.glob("*.html"):
        text = file.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|\|\s*safe|autoescape", text), (
            file.name
        )
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", text), file.name


def test_the_files_of_others_are_those_that_were_chosen() -> None:
    """``make vendored`` brings them again; a file that was touched by hand is not what its licence stands beside."""
    note = json.loads((assets.FOLDER / "vendor" / "vendored.json").read_text())
    root = Path(__file__).parents[2]
    listed_files = {one["file"]: one["sha256"] for one in note["files"]}
    for name, digest in listed_files.items():
        assert hashlib.sha256((root / name).read_bytes()).hexdigest() == digest, name
    there = {file.relative_to(root).as_posix() for file in (assets.FOLDER / "vendor").iterdir()}
    assert {name for name in there if not name.endswith("vendored.json")} <= set(listed_files)


async def test_cookies_are_for_this_page_alone(client: httpx.AsyncClient) -> None:
    page = await client.get("/dashboard/")
    (cookie,) = page.headers.get_list("set-cookie")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "set-cookie" not in (await client.get("/dashboard/")).headers
    ours = client.cookies[COOKIE]
    client.cookies.clear()
    again = await client.get("/dashboard/", headers={"Cookie": f"{COOKIE}=chosen-by.somebody-else"})
    assert again.cookies[COOKIE] not in {ours, "chosen-by.somebody-else"}, "a name that somebody chose is replaced"


async def test_deciding_needs_the_operator_s_token(client: httpx.AsyncClient, facts: ToldFacts) -> None:
    page = await client.get("/dashboard/connections")
    fields = {"reason": "x", "form_token": form_token(page) if "form_token" in page.text else ""}
    asked = await client.get("/dashboard/jobs/held/fail")
    assert asked.headers["location"] == "/dashboard/login?next=/dashboard/jobs/held/fail"
    assert (await client.post("/dashboard/jobs/held/fail", data=fields)).status_code == 403
    assert facts.decided == []


async def test_a_job_is_decided_by_whoever_signed_in(client: httpx.AsyncClient, facts: ToldFacts) -> None:
    before = client.cookies.get(COOKIE)
    answer = await signed_in(client)
    assert answer.status_code == 303
    assert client.cookies.get(COOKIE) != before
    commands = {
        "release": (
            {"never_submitted": "yes", "reason": "r"},
            Release(execution_id="held", reason="r", never_submitted=True),
        ),
        "fail": ({"reason": "lost"}, Fail(execution_id="held", reason="lost")),
        "adopt": ({"provider_job_id": " v-1 "}, Adopt(execution_id="held", provider_job_id="v-1")),
    }
    for action, (fields, command) in commands.items():
        question = await client.get(f"/dashboard/jobs/held/{action}")
        data = fields | {"form_token": form_token(question)}
        done = await client.post(f"/dashboard/jobs/held/{action}", data=data)
        assert done.headers["location"] == f"/dashboard/jobs/held?done={action}"
        assert facts.decided.pop() == command
    await brought_to(facts.ledger, "waiting", State.WAITING)
    await brought_to(facts.ledger, "settled", State.SETTLED)
    others = {"waiting/cancel": Cancel(execution_id="waiting"), "settled/retry": RetryDelivery(execution_id="settled")}
    for place, command in others.items():
        data = {"form_token": form_token(await client.get(f"/dashboard/jobs/{place}"))}
        assert (await client.post(f"/dashboard/jobs/{place}", data=data)).status_code == 303
        assert facts.decided.pop() == command
    facts.refusal = "the job moved on <b>meanwhile</b>"
    question = await client.get("/dashboard/jobs/held/release")
    refused = await client.post("/dashboard/jobs/held/release", data={"form_token": form_token(question)})
    assert refused.status_code == 409
    assert "moved on &lt;b&gt;meanwhile" in refused.text
    empty = await client.post("/dashboard/jobs/held/fail", data={"form_token": form_token(question), "reason": " "})
    assert empty.status_code == 409
    assert "reason" in empty.text
    assert facts.decided == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://elsewhere", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://elsewhere", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://operator", "Sec-Fetch-Site": "same-site"},
        {"Origin": "null", "Sec-Fetch-Site": "none"},
        {"Origin": "http://operator", "Sec-Fetch-Site": "none"},
        {"Origin": "http://[", "Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_a_form_of_another_page_is_refused(
    client: httpx.AsyncClient, facts: ToldFacts, headers: dict[str, str]
) -> None:
    await signed_in(client)
    token = form_token(await client.get("/dashboard/jobs/held/fail"))
    data = {"form_token": token, "reason": "x"}
    for path in ("jobs/held/fail", "connections/mock/test", "connections/lab/use", "logout", "login"):
        assert (await client.post(f"/dashboard/{path}", data=data, headers=headers)).status_code == 403
    assert facts.decided == []


async def test_a_form_of_another_session_is_refused(client: httpx.AsyncClient, facts: ToldFacts) -> None:
    await signed_in(client)
    for token in ("", "0" * 64, "ü"):
        data = {"form_token": token, "reason": "x"}
        assert (await client.post("/dashboard/jobs/held/fail", data=data)).status_code == 403
    large = await client.post("/dashboard/jobs/held/fail", data={"reason": "x" * 20_000})
    assert large.status_code == 403
    assert facts.decided == []


async def test_wrong_tokens_are_counted(client: httpx.AsyncClient) -> None:
    for _ in range(MOST_FAILURES):
        assert (await signed_in(client, "wrong")).status_code == 403
    assert (await signed_in(client)).status_code == 429


def test_a_session_ends_and_the_oldest_gives_way() -> None:
    now = 0.0
    sessions = Sessions(Secret("operator", TOKEN), to_look=True, clock=lambda: now)
    first = sessions.sign_in(TOKEN)
    assert sessions._session(first.name, is_new=False).signed_in
    now = SESSION_SECONDS
    assert not sessions._session(first.name, is_new=False).signed_in
    names = [sessions.sign_in(TOKEN).name for _ in range(70)]
    assert [sessions._session(name, is_new=False).signed_in for name in (names[0], names[-1])] == [False, True]
    with pytest.raises(NotAllowed):
        sessions.sign_in("")


async def test_nothing_is_shown_before_the_sign_in_where_that_is_asked_for(facts: ToldFacts) -> None:
    async with browser(facts, to_look=True) as client:
        for view in ("", "jobs", "jobs/x", "devices", "connections", "validators", "events"):
            page = await client.get(f"/dashboard/{view}")
            assert page.headers["location"].startswith("/dashboard/login"), view
        part = await client.get("/dashboard/jobs", headers={"HX-Request": "true"})
        assert (part.status_code, part.headers["hx-redirect"]) == (204, "/dashboard/login?next=/dashboard/jobs")
        await signed_in(client)
        assert (await client.get("/dashboard/jobs")).status_code == 200
        token = form_token(await client.get("/dashboard/jobs"))
        await client.post("/dashboard/logout", data={"form_token": token})
        assert (await client.get("/dashboard/jobs")).status_code == 303


async def test_one_sign_in_serves_the_whole_port(facts: ToldFacts, tmp_path: Path) -> None:
    """Signing in on the dashboard did not let the same browser read ``/metrics``: the port had a session of its own."""
    sessions = Sessions(Secret("operator", TOKEN), to_look=True)
    port = OperatorPort(
        OperatorSettings(port=0),
        operator_app(facts.ledger, _healthy),
        sessions,
        port_file=tmp_path / "port",
        axon=("127.0.0.1", 1),
        routes=pages.routes(facts, sessions),
        open_paths=["/dashboard/"],
    )
    await port.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port.port}") as client:
            client.headers["Sec-Fetch-Site"] = "same-origin"
            assert (await client.get("/health")).status_code == 401
            assert (await signed_in(client)).status_code == 303
            assert (await client.get("/health")).status_code == 200
            kept = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
            assert (await client.delete("/session")).status_code == 204
            for path, status in (("/health", 401), ("/dashboard/jobs", 303)):
                assert (await client.get(path, headers=kept)).status_code == status
            assert (await client.post("/session", json={"token": TOKEN})).status_code == 204
            assert (await client.get("/dashboard/jobs")).status_code == 200
            form = {"reason": "x"}
            await brought_to(facts.ledger, "held", State.HELD)
            assert (await client.post("/dashboard/jobs/held/fail", data=form)).status_code == 403
            assert facts.decided == []
    finally:
        await port.stop()


async def _healthy() -> dict[str, object]:
    return {"status": "ok"}


@pytest.mark.parametrize(
    "place", ["//evil.example", "https://evil.example", "/dashboard/../x", "/dashboard/\\evil", "/x"]
)
async def test_a_sign_in_leads_to_a_page_of_ours(client: httpx.AsyncClient, place: str) -> None:
    page = await client.get("/dashboard/login", params={"next": place})
    data = {"form_token": form_token(page), "token": TOKEN}
    done = await client.post("/dashboard/login", params={"next": place}, data=data)
    assert done.headers["location"] == "/dashboard/"


async def test_the_sign_in_leads_back_to_the_page_it_was_asked_for_on(client: httpx.AsyncClient) -> None:
    """Whoever signed in to decide about a job found themselves on the overview, without the job."""
    for path, place in {
        "/dashboard/jobs/held": "?next=/dashboard/jobs/held",
        "/dashboard/jobs?state=held": "?next=/dashboard/jobs",
        "/dashboard/connections": "?next=/dashboard/connections",
        "/dashboard/": "",
    }.items():
        assert f'href="/dashboard/login{place}">Sign in</a>' in (await client.get(path)).text, path


async def test_a_misspelt_address_is_answered_with_a_page_and_the_way_back(client: httpx.AsyncClient) -> None:
    """It was "Not Found" in plain text, with nowhere to go."""
    page = await client.get("/dashboard/jbos")
    assert page.status_code == 404
    assert "There is no such job or page here." in page.text
    assert 'href="/dashboard/jobs"' in page.text


def test_the_token_s_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "ledger.operator-token"
    token = kept_token(file)
    assert len(token) >= 43
    assert kept_token(file) == token
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        kept_token(file)
    file.chmod(0o600)
    file.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        kept_token(file)
    with pytest.raises(ConfigError, match="cannot be used"):
        kept_token(tmp_path / "no" / "such")


async def test_a_vendor_s_words_are_text_on_every_page(client: httpx.AsyncClient, facts: ToldFacts) -> None:
    report = DeviceReport(
        Device(device_id=HOSTILE, provider=HOSTILE, vendor=HOSTILE, device_type=HOSTILE),
        Capability(num_qubits=5, basis_gates=[HOSTILE], extras={"calibrated_at": HOSTILE, "readout_error": 0.01}),
        AvailabilityStatus(availability=HOSTILE, status_msg=HOSTILE, next_available=HOSTILE, queue_seconds=90),
        {"perTask": 0.3},
        HOSTILE,
    )
    facts.told_accounts = [AccountState("mock", HOSTILE, True, HOSTILE, [report])]
    facts.visits.asked(Hotkey(HOSTILE))
    facts.visits.refused(Hotkey(HOSTILE), HOSTILE)
    facts.visits.refused(None, HOSTILE)
    await signed_in(client)
    for view in (
        *VIEWS,
        "jobs?q=%22%3E%3Cscript%3E&provider=%22%3E%3Cscript%3E&validator=%22%3E%3Cscript%3E",
        "nothing",
    ):
        text = (await client.get(f"/dashboard/{view}")).text
        assert "<script>" not in text, view
        assert "<img" not in text, view
        assert "\x1b" not in text, view
    assert HOSTILE[:60] in unescape((await client.get("/dashboard/devices")).text)
    tested = await client.post(
        "/dashboard/connections/mock/test", data={"form_token": form_token(await client.get("/dashboard/connections"))}
    )
    assert "&lt;i&gt;the vendor is away" in tested.text


async def test_new_jobs_are_sent_elsewhere_by_who_signed_in(client: httpx.AsyncClient, facts: ToldFacts) -> None:
    page = await client.get("/dashboard/connections")
    assert "New jobs go to mock" in page.text
    assert "Sign in" in page.text
    assert "/connections/lab/use" not in page.text
    data = {"form_token": form_token(await client.get("/dashboard/login"))}
    assert (await client.post("/dashboard/connections/lab/use", data=data)).status_code == 403
    assert facts.used == []

    await signed_in(client)
    page = await client.get("/dashboard/connections")
    data = {"form_token": form_token(page)}
    assert "Use &lt;b&gt;bold" in page.text
    done = await client.post("/dashboard/connections/lab/use", data=data, follow_redirects=False)
    assert (done.status_code, done.headers["location"]) == (303, "/dashboard/connections")
    assert facts.used == ["lab"]
    assert (await client.post("/dashboard/connections/nobody/use", data=data)).status_code == 404
    refused = await client.post("/dashboard/connections/%3Cb%3Ebold/use", data=data)
    assert refused.status_code == 409
    assert "it cannot be used: &lt;i&gt;away" in refused.text


async def test_places_that_make_no_sense_are_no_places(facts: ToldFacts) -> None:
    for number in range(3):
        await brought_to(facts.ledger, f"j{number}", State.CLOSED)
    everything = await listed(facts, {})
    for after in ("c", "cx", "c9" * 30, "o", "o1", "o-", "o5-../x", f"o{'9' * 18}-a", "\0", "c-1"):
        page = await listed(facts, {"after": after})
        assert len(page.lines) <= len(everything.lines)
    assert (await listed(facts, {"state": "no-such", "verdict": "x", "q": "\0"})).lines == everything.lines
    assert (await listed(facts, {"q": "j1"})).exact == "j1"
    assert LOOK <= 1000, "a look must not keep the road's own questions waiting"


async def _stays() -> bool:
    return False


async def test_a_browser_that_left_makes_room_at_the_next_look(
    facts: ToldFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing moves nothing is sent, so who had closed a page kept its place for forty seconds.

    After sixteen reloads no page was live any more.
    """
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.01)
    pulse = Pulse(facts)
    left = asyncio.Event()

    async def has_left() -> bool:
        return left.is_set()

    stream = pulse.stream(has_left)
    assert MOVED in await anext(stream)
    left.set()
    async with asyncio.timeout(5):
        assert [piece async for piece in stream] == []
    assert pulse.streams == 0


async def test_one_look_serves_all_streams_and_ends_with_them(
    facts: ToldFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.01)
    pulse = Pulse(facts)
    streams = [pulse.stream(_stays) for _ in range(live.MOST_STREAMS)]
    for stream in streams:
        assert MOVED in await anext(stream)
    assert pulse.is_full
    waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await until_true(lambda: facts.looks >= 2, what="a second look")
        await brought_to(facts.ledger, "new", State.ACCEPTED)
        assert await asyncio.gather(*waiting) == [MOVED] * len(streams)
        facts.stopping = True
        for stream in streams:
            assert [event async for event in stream if event != MOVED] == []
        assert pulse.streams == 0
        await until_true(lambda: pulse._looking is None, what="the end of looking")


async def test_what_moves_before_the_first_look_is_told(facts: ToldFacts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that came and went within two seconds of the page did not show: the first look had nothing to compare."""
    monkeypatch.setattr(live, "LOOK_SECONDS", 0.05)
    stream = Pulse(facts).stream(_stays)
    await anext(stream)
    await brought_to(facts.ledger, "quick", State.CLOSED)
    async with asyncio.timeout(20):
        assert await anext(stream) == MOVED
    facts.stopping = True
    assert [event async for event in stream] == []


def test_visitors_are_bounded() -> None:
    visitors = Visitors(clock=lambda: 5.0)
    for number in range(MOST_VISITORS + 5):
        visitors.asked(Hotkey(f"5{number}"))
    assert len(visitors.listed()) == MOST_VISITORS
    last = visitors.listed()[0]
    assert (last.hotkey, last.asked, last.last_at) == (f"5{MOST_VISITORS + 4}", 1, 5.0)
    for number in range(MOST_REASONS * 3):
        visitors.refused(last.hotkey, f"full ({number} jobs)" * 50)
        visitors.refused(None, f"reason {number}")
    assert last.refused == MOST_REASONS * 3
    assert len(last.reasons) == MOST_REASONS + 1
    assert visitors.strangers[OTHER_REASONS] == MOST_REASONS * 2
    assert max(map(len, last.reasons)) <= 160


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, shown.NOTHING),
        (-1, "0 ms"),
        (0.25, "250 ms"),
        (9.96, "10.0 s"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (3700, "1 h 1 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_are_readable(seconds: float | None, text: str) -> None:
    assert shown.duration(seconds) == text


def test_words_are_cut_and_made_visible() -> None:
    assert shown.words("a\x1b[0m\u202eb\n") == "a\ufffd[0m\ufffdb\n"
    assert shown.words("x" * 10, 4) == "xxxx… (6 more characters)"
    assert shown.words(None) == ""
    assert shown.moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02 03:04:05"
