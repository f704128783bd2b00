"""Downloading a circuit from a URL that a stranger chose.

The address that is really connected to is the one that was checked: names are resolved by our own resolver inside the
connector, so a name cannot point somewhere harmless for the check and somewhere else for the connection. Redirects
are followed by hand and checked like the first URL. Errors name the host and the status only: never path, query or
content, because they are shown to strangers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from typing_extensions import override
from yarl import URL

from qcompute.circuits.settings import DownloadSettings
from qcompute.errors import FetchFailed, FetchRefused

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN: Final = frozenset({408, 425, 429})
_OK: Final = 200
_SERVER_ERRORS: Final = 500
_CHUNK: Final = 65536

_FORBIDDEN: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",  # carrier NAT, where some clouds keep their metadata
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "2001::/32",  # Teredo: an IPv4 address in disguise
        "2002::/16",  # 6to4, the same
        "3fff::/20",  # documentation; Pythons before 3.13 do not know it
    )
)

_UNICAST_6: Final = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is routed on the public internet; the rest has IPv4 addresses in disguise in several places, which
Python takes for global: ``::127.0.0.1``, ``::ffff:0:127.0.0.1``, ``64:ff9b::127.0.0.1``."""

_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?")
_LONGEST_HOST: Final = 253
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")

KEEP_SECONDS: Final = 15.0
"""How long a connection waits for the next circuit of the same host; a handshake costs more than a circuit."""

_TLS_PORT: Final = 443
_FIRST_FREE_PORT: Final = 1024


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not private, loopback, link-local, reserved or disguised."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if any(ip.version == network.version and ip in network for network in _FORBIDDEN):
        return False
    if ip.version == _UNICAST_6.version and ip not in _UNICAST_6:
        return False
    return ip.is_global and not ip.is_multicast


class _Refused(OSError):
    """Raised by the resolver; aiohttp passes OSErrors through."""


class GuardedResolver(AbstractResolver):
    """Resolves names, and answers only with addresses that may be connected to."""

    def __init__(self, settings: DownloadSettings, inner: AbstractResolver | None = None) -> None:
        self._settings = settings
        self._inner = inner or ThreadedResolver()

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of ``host``; raises OSError when one of them is not public: no honest host has both kinds."""
        found = await self._inner.resolve(host, port, family)
        if _is_listed(host, port, self._settings.allowed_hosts):
            return found
        if not all(is_public(result["host"]) for result in found):
            raise _Refused("private address")
        return found

    @override
    async def close(self) -> None:
        """Close the inner resolver."""
        await self._inner.close()


class GuardedDownloader:
    """Fetches circuits. Made in any thread, used in one event loop; downloads do not wait for one another."""

    def __init__(self, settings: DownloadSettings, *, max_bytes: int, resolver: AbstractResolver | None = None) -> None:
        self._settings = settings
        self._max_bytes = max_bytes
        self._inner = resolver
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, url: str) -> str:
        """The text at ``url``.

        Raises:
            FetchRefused: the URL, an address it leads to, or what it gives is not allowed, or the host says no for
                good (403, 404 …).
            FetchFailed: the host did not answer, or with an error that may pass.
        """
        try:
            async with asyncio.timeout(self._settings.total_seconds):
                return await self._follow(url)
        except TimeoutError:
            limit = self._settings.total_seconds
            raise FetchFailed(f"{_host(url)} did not deliver the circuit within {limit:g} s") from None

    async def close(self) -> None:
        """Close all connections; safe to call twice."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _follow(self, url: str) -> str:
        target = self._checked(url)
        for _ in range(self._settings.max_redirects + 1):
            try:
                answer = await self._get(target)
            except aiohttp.ClientConnectorError as error:
                if isinstance(error.os_error, _Refused):
                    raise _private(target) from None
                raise FetchFailed(f"{target.host} cannot be reached") from None
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise FetchFailed(f"{target.host} did not answer properly ({type(error).__name__})") from None
            if isinstance(answer, str):
                return answer
            target = self._checked(str(answer), previous=target)
        raise FetchRefused(f"more than {self._settings.max_redirects} redirects", reason="redirects")

    async def _get(self, target: URL) -> str | URL:
        """The text, or where the host redirects to."""
        async with self._client().get(target, allow_redirects=False) as response:
            if response.status in _REDIRECTS and (location := response.headers.get("Location")):
                return _joined(target, location)
            if response.status != _OK:
                raise _status(target, response)
            if response.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
                raise FetchRefused(f"{target.host} sent a compressed answer", reason="compressed")
            return await self._text(target, response)

    async def _text(self, target: URL, response: aiohttp.ClientResponse) -> str:
        declared = response.content_length
        data = bytearray()
        if declared is None or declared <= self._max_bytes:
            async for chunk in response.content.iter_chunked(_CHUNK):
                data += chunk
                if len(data) > self._max_bytes:
                    break
        if (declared or 0) > self._max_bytes or len(data) > self._max_bytes:
            raise FetchRefused(f"the circuit is larger than {self._max_bytes} bytes", reason="too_large")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise FetchRefused(f"{target.host} sent something that is not UTF-8 text", reason="not_text") from None

    def _checked(self, text: str, previous: URL | None = None) -> URL:
        """The URL, when it may be connected to at all; names are checked again when they are resolved."""
        url, host, port = _parsed(text)
        listed = _is_listed(host, port, self._settings.allowed_hosts)
        if url.scheme == "http" and not listed:
            raise FetchRefused(f"{host} must be reached by https", reason="not_https")
        if previous is not None and previous.scheme == "https" and url.scheme == "http":
            raise FetchRefused(f"{previous.host} redirects from https to http", reason="not_https")
        if not listed and _is_address(host) and not is_public(host):
            raise _private(url)
        if not listed and port != _TLS_PORT and port < _FIRST_FREE_PORT:
            # Below 1024 lie other protocols: no stranger may have us knock at somebody's mail or ssh server.
            raise FetchRefused(f"the circuit's URL must not use port {port} of {host}", reason="bad_url")
        return url

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            settings = self._settings
            self._session = aiohttp.ClientSession(
                # A connection that is used again leads to the address that was checked when it was made.
                connector=aiohttp.TCPConnector(
                    resolver=GuardedResolver(settings, self._inner),
                    use_dns_cache=False,
                    limit=0,
                    keepalive_timeout=KEEP_SECONDS,
                ),
                timeout=aiohttp.ClientTimeout(
                    total=settings.total_seconds,
                    sock_connect=settings.connect_seconds,
                    sock_read=settings.idle_seconds,
                ),
                headers={"Accept": "text/plain, */*;q=0.1", "Accept-Encoding": "identity", "User-Agent": "qcompute"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
            )
        return self._session


def _parsed(text: str) -> tuple[URL, str, int]:
    """The URL with its host and port; raises `FetchRefused` for one that two programs could read in two ways."""
    try:
        url = URL(text)
        host, port = url.host, url.port
    except ValueError:
        raise FetchRefused("the circuit's URL cannot be read", reason="bad_url") from None
    if not host or port is None or url.scheme not in ("http", "https"):
        raise FetchRefused("the circuit's URL must be https://…", reason="bad_url")
    if _CONTROLS.search(text) or not _is_host(url.raw_host or ""):
        raise FetchRefused("the circuit's URL has characters that no address has", reason="bad_url")
    if host.replace(".", "").isdigit() and not _is_address(host):
        # 127.1, 2130706433: addresses to the system, names to us, and aiohttp would not ask our resolver.
        raise FetchRefused("the circuit's URL has a number for a host", reason="bad_url")
    if url.user is not None or url.password is not None:
        raise FetchRefused("the circuit's URL must not carry a user name", reason="bad_url")
    return url, host, port


def _joined(target: URL, location: str) -> URL:
    """Where a redirect leads; a broken one will not mend with another try."""
    try:
        return target.join(URL(location))
    except ValueError:
        raise FetchRefused(f"{target.host} redirects to something that is no URL", reason="bad_url") from None


def _is_host(text: str) -> bool:
    """Whether this is an address without a zone, or a name of letters, digits, hyphens and dots."""
    if ":" in text:
        return "%" not in text
    return len(text) <= _LONGEST_HOST and _HOST.fullmatch(text) is not None


def _status(target: URL, response: aiohttp.ClientResponse) -> FetchRefused | FetchFailed:
    text = f"{target.host} answered {response.status}"
    if response.status in _TRY_AGAIN or response.status >= _SERVER_ERRORS:
        return FetchFailed(text)
    return FetchRefused(text, reason="host_refused")


def _private(target: URL) -> FetchRefused:
    return FetchRefused(f"{target.host} is not an address of the public internet", reason="private_address")


def _is_listed(host: str, port: int, listed: Sequence[str]) -> bool:
    return host in listed or f"{host}:{port}" in listed


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _host(url: str) -> str:
    try:
        return URL(url).host or "the host"
    except ValueError:
        return "the host"
