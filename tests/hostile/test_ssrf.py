"""No URL of the corpus leads inside; ``python -m tests.hostile ssrf`` sends all of them through a daemon too."""

from __future__ import annotations

import asyncio

import pytest

from qcompute.chain.keys import signer_from_uri
from qcompute.errors import DeliveryError
from qcompute.jobserver import JobServerSettings, open_job_server
from qcompute.jobserver.contract import UploadSlot
from tests.hostile.ssrf import Outcome, fetch_all, for_daemon, run_jobs, wrong_with
from tests.hostile.ssrf_corpus import BAD, PRIVATE, Url, corpus
from tests.hostile.ssrf_targets import targets

BY_DAEMON = for_daemon()[::6]


def test_the_corpus_is_large_and_no_case_stands_twice() -> None:
    names = [url.what for url in corpus()]
    assert len(names) == len(set(names))
    assert len(names) >= 100
    assert len(BY_DAEMON) >= 20


def wrong(outcomes: list[Outcome]) -> dict[str, list[str]]:
    return {one.url.what: one.faults for one in outcomes if one.faults}


async def test_no_url_leads_inside_through_the_downloader() -> None:
    """The whole corpus; what was found with it is fixed.

    ``::127.0.0.1``, ``::ffff:0:127.0.0.1``, ``3fff::1`` and ``5f00::1`` were taken for public; a name with a public and
    a private address was fetched from the public one; hosts with NUL, spaces and percent signs were looked up; any port
    of any public host was knocked at.
    """
    outcomes = await fetch_all(corpus())
    assert wrong(outcomes) == {}


async def test_no_url_leads_inside_through_the_daemon() -> None:
    outcomes = await run_jobs(BY_DAEMON)
    assert wrong(outcomes) == {}
    assert {one.url.reason for one in outcomes} >= {PRIVATE, BAD}


@pytest.mark.parametrize(
    ("message", "reason", "reached", "fault"),
    [
        ("x is not an address of the public internet", PRIVATE, [], ""),
        ("x is not an address of the public internet", BAD, [], "the reason was"),
        ("x is not an address of the public internet", None, [], "the reason was"),
        ("x is not an address of the public internet", PRIVATE, ["127.0.0.1"], "reached 127.0.0.1"),
        ("https://x/SECRET is not public", PRIVATE, [], "the error said"),
        ("x\0 is not public", PRIVATE, [], "the error said"),
        ("", PRIVATE, [], "the error said"),
    ],
)
def test_a_wrong_refusal_is_seen(message: str, reason: str | None, reached: list[str], fault: str) -> None:
    faults = wrong_with(Url("", "https://x/SECRET", PRIVATE), message, reason, reached)
    assert fault in "; ".join(faults)
    assert (faults == []) is (not fault)


async def put(url: str) -> None:
    """One upload of counts to a URL that the job server gave."""
    settings = JobServerSettings(
        url="http://127.0.0.1:1", tensorauth_url="http://127.0.0.1:1", upload_timeout_seconds=2, metrics_api_url=""
    )
    client = open_job_server(settings, signer_from_uri("//hostile-uploader"))
    try:
        await client.put_counts(UploadSlot("id", url), {"00": 1})
    finally:
        await client.close()


class Store:
    """An object store that keeps what it is sent, and answers as told."""

    def __init__(self, answer: bytes) -> None:
        self.requests: list[bytes] = []
        self._answer = answer

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        self.requests.append(head + await reader.readexactly(length))
        writer.write(self._answer)
        writer.close()


async def test_an_upload_goes_where_the_job_server_says_with_the_counts_and_nothing_else() -> None:
    """The job server is trusted by configuration: results go to whatever http(s) address it names, private ones too.

    What holds is that no credential goes along, and that the store itself sends us nowhere else.
    """
    store = Store(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    server = await asyncio.start_server(store, "127.0.0.2", 0)
    await put(f"http://127.0.0.2:{server.sockets[0].getsockname()[1]}/bucket?X-Amz-Signature=SECRET")
    (request,) = store.requests
    assert request.endswith(b'{"00": 1}')
    assert b"authorization" not in request.lower()
    assert b"cookie" not in request.lower()
    server.close()
    await server.wait_closed()


async def test_an_object_store_cannot_send_an_upload_elsewhere() -> None:
    async with targets() as there:
        location = b"https://127.0.0.1:%d/SECRET" % there.port
        store = Store(b"HTTP/1.1 307 Elsewhere\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n")
        server = await asyncio.start_server(store, "127.0.0.1", 0)
        with pytest.raises(DeliveryError, match="307") as caught:
            await put(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/SECRET")
        assert "SECRET" not in str(caught.value)
        assert there.reached == []
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    "url",
    ["file:///etc/SECRET", "ftp://127.0.0.1/SECRET", "unix:///SECRET", "SECRET", "https://[::1/SECRET", "//SECRET"],
)
async def test_an_upload_url_of_another_kind_is_refused_without_being_told(url: str) -> None:
    with pytest.raises(DeliveryError) as caught:
        await put(url)
    assert "SECRET" not in str(caught.value)
