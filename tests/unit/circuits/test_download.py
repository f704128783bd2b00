"""The guarded download: only where it may go, never for long, and nothing of it in an error."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override

from qcompute.circuits.download import GuardedDownloader, is_public
from qcompute.circuits.settings import DownloadSettings
from qcompute.errors import FetchFailed, FetchRefused

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Host:
    """A server that answers each path as told."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def listed(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str) -> str:
        return f"http://{self.listed}{path}?X-Amz-Signature=secret"

    def says(self, path: str, text: str | bytes = "", status: int = 200, headers: dict[str, str] | None = None) -> str:
        body = text.encode() if isinstance(text, str) else text

        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(body=body, status=status, headers=headers)

        self.handlers[path] = answer
        return self.url(path)

    async def start(self) -> None:
        async def any_path(request: web.Request) -> web.StreamResponse:
            return await self.handlers[request.path](request)

        app = web.Application()
        app.router.add_route("GET", "/{rest:.*}", any_path)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


class Names(AbstractResolver):
    """A name service that says what a test wants."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in self.addresses
        ]

    @override
    async def close(self) -> None:
        return


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    made = Host()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def downloader(host: Host) -> AsyncIterator[GuardedDownloader]:
    settings = DownloadSettings(allowed_hosts=(host.listed,), total_seconds=2, idle_seconds=1)
    made = GuardedDownloader(settings, max_bytes=1000)
    yield made
    await made.close()


async def refusal(downloader: GuardedDownloader, url: str) -> FetchRefused:
    with pytest.raises(FetchRefused) as caught:
        await downloader.fetch(url)
    assert "secret" not in str(caught.value)
    return caught.value


async def failure(downloader: GuardedDownloader, url: str) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        await downloader.fetch(url)
    assert "secret" not in str(caught.value)
    assert "/" not in str(caught.value)
    return caught.value


async def test_a_circuit_is_fetched(host: Host, downloader: GuardedDownloader) -> None:
    assert await downloader.fetch(host.says("/a.qasm", "OPENQASM 2.0; // ü")) == "OPENQASM 2.0; // ü"


PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",  # noqa: S104 - an address to be refused
    "224.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
    "192.0.0.192",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001::1",
    "fec0::1",
]


@pytest.mark.parametrize("address", PRIVATE)
async def test_private_addresses_are_refused_as_such_and_behind_names(address: str) -> None:
    assert not is_public(address)
    literal = f"[{address}]" if ":" in address else address
    downloader = GuardedDownloader(DownloadSettings(), max_bytes=1000, resolver=Names(address))
    assert (await refusal(downloader, f"https://{literal}/x?secret")).reason == "private_address"
    assert (await refusal(downloader, "https://circuits.example/x?secret")).reason == "private_address"
    await downloader.close()


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_not(address: str) -> None:
    assert is_public(address)


async def test_a_listed_host_is_allowed_on_its_port_only(host: Host) -> None:
    host.says("/x", "text")
    downloader = GuardedDownloader(DownloadSettings(allowed_hosts=("127.0.0.1:1",)), max_bytes=1000)
    assert (await refusal(downloader, host.url("/x"))).reason == "not_https"
    await downloader.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://circuits.example/x?secret", "not_https"),
        ("ftp://circuits.example/x?secret", "bad_url"),
        ("file:///etc/passwd?secret", "bad_url"),
        ("https://user:secret@circuits.example/x", "bad_url"),
        ("https://", "bad_url"),
        ("https://[::1", "bad_url"),
        ("not a url secret", "bad_url"),
        ("", "bad_url"),
    ],
)
async def test_urls_that_are_not_allowed(downloader: GuardedDownloader, url: str, reason: str) -> None:
    assert (await refusal(downloader, url)).reason == reason


async def test_redirects_are_followed_and_checked(host: Host, downloader: GuardedDownloader) -> None:
    host.says("/end", "found")
    host.says("/once", status=302, headers={"Location": "/end"})
    assert await downloader.fetch(host.url("/once")) == "found"
    host.says("/inside", status=302, headers={"Location": "http://10.0.0.1/secret"})
    assert (await refusal(downloader, host.url("/inside"))).reason == "not_https"
    host.says("/inside-tls", status=307, headers={"Location": "https://169.254.169.254/secret"})
    assert (await refusal(downloader, host.url("/inside-tls"))).reason == "private_address"
    host.says("/round", status=302, headers={"Location": "/round"})
    assert (await refusal(downloader, host.url("/round"))).reason == "redirects"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_a_definite_no(host: Host, downloader: GuardedDownloader, status: int) -> None:
    error = await refusal(downloader, host.says("/x", "secret", status=status))
    assert error.reason == "host_refused"
    assert str(status) in str(error)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_trouble_that_may_pass(host: Host, downloader: GuardedDownloader, status: int) -> None:
    assert str(status) in str(await failure(downloader, host.says("/x", "secret", status=status)))


async def test_a_host_that_is_not_there(host: Host, downloader: GuardedDownloader) -> None:
    url = host.says("/x")
    await host.stop()
    assert "cannot be reached" in str(await failure(downloader, url))


async def test_what_is_too_large_is_not_read(host: Host, downloader: GuardedDownloader) -> None:
    assert (await refusal(downloader, host.says("/declared", "x" * 1001))).reason == "too_large"

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 500)

    host.handlers["/endless"] = endless
    assert (await refusal(downloader, host.url("/endless"))).reason == "too_large"


async def test_only_plain_utf8_text(host: Host, downloader: GuardedDownloader) -> None:
    assert (await refusal(downloader, host.says("/x", b"\xff\xfe"))).reason == "not_text"
    packed = host.says("/gz", b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"})
    assert (await refusal(downloader, packed)).reason == "compressed"


async def test_slow_hosts_are_given_up_and_delay_nobody(host: Host, downloader: GuardedDownloader) -> None:
    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.05)

    async def silent(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    host.handlers |= {"/drip": dripping, "/silent": silent}
    quick = host.says("/quick", "text")
    slow = [asyncio.create_task(failure(downloader, host.url(path))) for path in ("/drip", "/silent") * 5]
    async with asyncio.timeout(1):
        assert await downloader.fetch(quick) == "text"
    async with asyncio.timeout(10):
        await asyncio.gather(*slow)
