"""Downloads over TLS: certificates are checked, and no redirect leads out of TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp.connector
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from qcompute.circuits.download import GuardedDownloader
from qcompute.circuits.settings import DownloadSettings
from qcompute.errors import FetchFailed, FetchRefused


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate of its own for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "circuits")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
async def host(certificate: Path) -> AsyncIterator[str]:
    """``127.0.0.1:port`` of a TLS server: ``/text`` is a circuit, ``/down`` redirects to the same without TLS."""

    async def text(_: web.Request) -> web.StreamResponse:
        return web.Response(text="OPENQASM 2.0;")

    async def down(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": f"http://{request.host}/text?secret"})

    app = web.Application()
    app.router.add_get("/text", text)
    app.router.add_get("/down", down)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def downloader(host: str) -> AsyncIterator[GuardedDownloader]:
    made = GuardedDownloader(DownloadSettings(allowed_hosts=(host,), total_seconds=5), max_bytes=1000)
    yield made
    await made.close()


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", context)


async def test_a_certificate_nobody_signed_is_not_believed(host: str, downloader: GuardedDownloader) -> None:
    with pytest.raises(FetchFailed, match=r"127\.0\.0\.1") as caught:
        await downloader.fetch(f"https://{host}/text?secret")
    assert "secret" not in str(caught.value)


@pytest.mark.usefixtures("trusted")
async def test_no_redirect_leads_out_of_tls_even_where_http_is_allowed(
    host: str, downloader: GuardedDownloader
) -> None:
    assert await downloader.fetch(f"https://{host}/text") == "OPENQASM 2.0;"
    with pytest.raises(FetchRefused, match="from https to http") as caught:
        await downloader.fetch(f"https://{host}/down")
    assert caught.value.reason == "not_https"
    assert "secret" not in str(caught.value)


@given(
    scheme=st.sampled_from(["http", "ftp", "file", "gopher", "HTTP", "javascript", ""]),
    host=st.sampled_from(["circuits.example", "10.0.0.1", "[::1]", "0x7f.1", "127.1", "2130706433", "localhost", ""]),
    rest=st.text(max_size=20),
)
def test_whatever_is_not_https_is_refused_and_not_repeated(scheme: str, host: str, rest: str) -> None:
    async def refused() -> FetchRefused:
        downloader = GuardedDownloader(DownloadSettings(total_seconds=1), max_bytes=10)
        with pytest.raises(FetchRefused) as caught:
            await downloader.fetch(f"{scheme}://{host}/SECRET{rest}?SECRET{rest}")
        await downloader.close()
        return caught.value

    assert "SECRET" not in str(asyncio.run(refused()))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.1",
        "0",
        "2130706433",
        "0177.0.0.1",
        "127.0.0.1.",
        "①②⑦.⓪.⓪.①",
        "[::ffff:7f00:1]",
        "127.0.0.1%25lo",
    ],
)
async def test_other_spellings_of_this_machine_lead_nowhere(host: str) -> None:
    """Some of them the system itself understands, without our resolver being asked."""
    connected: list[str] = []

    def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(host)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    downloader = GuardedDownloader(DownloadSettings(total_seconds=5), max_bytes=10)
    with pytest.raises(FetchRefused) as caught:
        await downloader.fetch(f"https://{host}:{port}/SECRET")
    assert caught.value.reason in ("private_address", "bad_url")
    assert "SECRET" not in str(caught.value)
    assert connected == []
    await downloader.close()
    server.close()
    await server.wait_closed()
