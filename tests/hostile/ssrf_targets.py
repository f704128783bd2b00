"""Where forbidden URLs lead: sockets that count who comes, a host that redirects, a resolver that answers as told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast
from unittest import mock

import aiohttp.connector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from typing_extensions import override

from tests.hostile.ssrf_corpus import LOCATIONS

INSIDE: Final = ("127.0.0.1", "127.0.0.2", "::1")


@dataclass(slots=True)
class Targets:
    """``reached`` are the addresses somebody connected to; 0 of them is what everything here is about."""

    port: int = 0
    redirect: str = ""
    reached: list[str] = field(default_factory=list[str])
    redirects_given: int = 0

    def filled(self, url: str) -> str:
        """A URL of the corpus with the ports of now."""
        return url.replace("{port}", str(self.port)).replace("{redirect}", self.redirect)


@asynccontextmanager
async def targets() -> AsyncGenerator[Targets, None]:
    """Listening targets, all on one port, and the redirecting host."""
    made = Targets()
    servers: list[asyncio.Server] = []
    for address in INSIDE:
        servers.append(await asyncio.start_server(_counting(made, address), address, made.port))
        made.port = servers[0].sockets[0].getsockname()[1]
    redirecting = await asyncio.start_server(_redirecting(made), "127.0.0.1", 0)
    made.redirect = f"127.0.0.1:{redirecting.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        for server in (*servers, redirecting):
            server.close()
            await server.wait_closed()


def _counting(made: Targets, address: str) -> Any:
    def came(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.reached.append(address)
        writer.close()

    return came


def _redirecting(made: Targets) -> Any:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, status, number = (await reader.readline()).split()[1].decode().split("/")
        location = made.filled(LOCATIONS[int(number)][1])
        made.redirects_given += 1
        head = f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        writer.write(head.encode())
        writer.close()

    return answer


class Names(AbstractResolver):
    """Answers for one host in turn, the last answer again and again; the system answers what needs no network."""

    def __init__(self, answers: tuple[tuple[str, ...], ...]) -> None:
        self.asked = 0
        self._answers = answers
        self._system = ThreadedResolver()

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked += 1
        if not self._answers:
            if host.lower().rstrip(".") != "localhost" and not host.startswith("0x"):
                raise OSError("no such name")
            return await self._system.resolve(host, port, family)
        addresses = self._answers[min(self.asked, len(self._answers)) - 1]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in addresses
        ]

    @override
    async def close(self) -> None:
        await self._system.close()


@contextmanager
def dialled() -> Generator[list[str], None, None]:
    """The addresses aiohttp connects to; only those on this machine are really connected to."""
    addresses: list[str] = []
    connector = cast("Any", aiohttp.connector)
    really = connector.aiohappyeyeballs.start_connection

    async def start_connection(*arguments: Any, addr_infos: Any, **more: Any) -> socket.socket:
        addresses.extend(info[4][0] for info in addr_infos)
        if any(info[4][0] not in INSIDE for info in addr_infos):
            raise OSError("this test has no network")
        return await really(*arguments, addr_infos=addr_infos, **more)

    with mock.patch.object(connector.aiohappyeyeballs, "start_connection", start_connection):
        yield addresses
