"""Raw bytes to the axon's port, and what came back; nothing here is kept from being wrong."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from bittensor.sp_core import Keypair

from qcompute.chain.btauth import sign_btauth
from qcompute.protocol import EMPTY_BODY_HASH, SYNAPSE_NAME
from qcompute.units import Hotkey
from tests.hostile.network_victim import COLLECT, PERMITTED, Victim

CUT: Final = 0
"""In place of a status: the connection ended without an answer."""
PATIENCE_SECONDS: Final = 20.0
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_LENGTH: Final = re.compile(rb"content-length: ([0-9]+)", re.IGNORECASE)
_UUID: Final = "5928d28c-e54b-11f1-b7a6-02fc00000001"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its status (`CUT` for none), its body, and how long the connection took until it ended."""

    status: int
    body: bytes
    seconds: float

    @property
    def message(self) -> str:
        """The text of a refusal: of the request, or of the job in it; empty when there is none."""
        try:
            document: Any = json.loads(self.body)
            return str(document.get("message") or document.get("error_message") or "")
        except (ValueError, AttributeError):
            return ""


Attack = Callable[[Victim], Awaitable[list[Answer]]]


@dataclass(frozen=True, slots=True)
class Case:
    """One attack and what may come of it.

    ``statuses`` are those that may be answered, each at least once in ``least`` answers or more; ``words`` stand in
    the message of the last. ``new_jobs`` is what the ledger has more afterwards, none unless the attack brings a job
    rightly first. ``restarts`` says that the daemon is killed and started in between. ``sampled`` cases run in
    ``make test`` too.
    """

    name: str
    attack: Attack
    statuses: tuple[int, ...]
    words: str = ""
    least: int = 1
    new_jobs: int = 0
    restarts: bool = False
    sampled: bool = False


def answers_in(raw: bytes, seconds: float) -> list[Answer]:
    """All answers in what a connection gave; interim ones are left out."""
    found: list[Answer] = []
    while match := _STATUS.match(raw):
        head, _, rest = raw.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        size = int(length[1]) if length else len(rest)
        if match[1] == b"100":
            size = 0
        else:
            found.append(Answer(int(match[1]), rest[:size], seconds))
        raw = rest[size:]
    return found or [Answer(CUT, raw, seconds)]


async def talk(
    victim: Victim, parts: Iterable[bytes], *, pause_seconds: float = 0.0, half_close: bool = False
) -> list[Answer]:
    """Send the parts, read until the server ends the connection; an answer that never comes fails the case."""
    began = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", victim.port, limit=1 << 22)
    except OSError:
        return [Answer(CUT, b"", time.monotonic() - began)]
    sending = asyncio.create_task(_send(writer, parts, pause_seconds, half_close=half_close))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            raw = await _read(reader)
    except TimeoutError:
        raw = b"the server kept this connection for ever"
    finally:
        sending.cancel()
        writer.close()
    return answers_in(raw, time.monotonic() - began)


async def _send(
    writer: asyncio.StreamWriter, parts: Iterable[bytes], pause_seconds: float, *, half_close: bool
) -> None:
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_seconds)
        if half_close:
            writer.write_eof()
    except OSError:
        return  # the server has had enough; what it said is read by the other side


async def _read(reader: asyncio.StreamReader) -> bytes:
    raw = bytearray()
    try:
        while chunk := await reader.read(65536):
            raw += chunk
    except ConnectionError:
        pass
    return bytes(raw)


def sends(*parts: bytes, pause_seconds: float = 0.0, half_close: bool = False) -> Attack:
    """An attack of fixed bytes on one connection."""

    async def attack(victim: Victim) -> list[Answer]:
        return await talk(victim, parts, pause_seconds=pause_seconds, half_close=half_close)

    return attack


def makes(make: Callable[[Victim], Iterable[bytes]], *, pause_seconds: float = 0.0, half_close: bool = False) -> Attack:
    """An attack whose bytes depend on the victim: its hotkey, the time."""

    async def attack(victim: Victim) -> list[Answer]:
        return await talk(victim, make(victim), pause_seconds=pause_seconds, half_close=half_close)

    return attack


def at_once(count: int, one: Attack) -> Attack:
    """The same attack on so many connections at the same time."""

    async def attack(victim: Victim) -> list[Answer]:
        groups = await asyncio.gather(*(one(victim) for _ in range(count)))
        return [answer for group in groups for answer in group]

    return attack


def in_turn(*attacks: Attack) -> Attack:
    """One after the other; the answers of all."""

    async def attack(victim: Victim) -> list[Answer]:
        return [answer for one in attacks for answer in await one(victim)]

    return attack


def dendrite_headers(
    victim: Victim,
    *,
    signer: Keypair = PERMITTED,
    nonce: str | None = None,
    uuid: str = _UUID,
    receiver: str | None = None,
    body_hash: str = EMPTY_BODY_HASH,
    changes: dict[str, str | None] | None = None,
) -> dict[str, str]:
    """A dendrite's headers, rightly signed over these values; ``changes`` come after signing, None leaves one out."""
    nonce = nonce if nonce is not None else str(time.time_ns())
    receiver = receiver or victim.hotkey
    message = f"{nonce}.{signer.ss58_address}.{receiver}.{uuid}.{body_hash}"
    given: dict[str, str | None] = {
        "name": SYNAPSE_NAME,
        "timeout": "10.0",
        "bt_header_axon_hotkey": receiver,
        "bt_header_dendrite_version": "10005000",
        "bt_header_dendrite_nonce": nonce,
        "bt_header_dendrite_uuid": uuid,
        "bt_header_dendrite_hotkey": signer.ss58_address,
        "bt_header_dendrite_signature": "0x" + bytes(signer.sign(message.encode())).hex(),
        "computed_body_hash": body_hash,
        "Content-Type": "application/json",
    }
    return {name: value for name, value in (given | (changes or {})).items() if value is not None}


def btauth_headers(
    victim: Victim,
    body: bytes,
    *,
    signer: Keypair = PERMITTED,
    nonce_ns: int | None = None,
    receiver: str | None = None,
    path: str = f"/{SYNAPSE_NAME}",
    changes: dict[str, str | None] | None = None,
) -> dict[str, str]:
    """Headers of ``btauth/1``, rightly signed over these values; ``changes`` as for `dendrite_headers`."""
    given: dict[str, str | None] = dict(
        sign_btauth(
            signer,
            path=path,
            body=body,
            receiver=Hotkey(receiver or victim.hotkey),
            nonce_ns=time.time_ns() if nonce_ns is None else nonce_ns,
        )
    )
    return {name: value for name, value in (given | (changes or {})).items() if value is not None}


def head(
    headers: dict[str, str], *, method: str = "POST", target: str = f"/{SYNAPSE_NAME}", more: bytes = b""
) -> bytes:
    """Request line and headers; ``more`` are header lines as they are."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}".encode("latin-1") + more + b"\r\n"


def post(headers: dict[str, str], body: bytes, *, target: str = f"/{SYNAPSE_NAME}", close: bool = True) -> bytes:
    """A whole POST with its true length."""
    ending = {"Connection": "close"} if close else {}
    return head(headers | {"Content-Length": str(len(body))} | ending, target=target) + body


def document(**changes: Any) -> bytes:
    """A synapse's body that differs from an honest one in these fields."""
    return json.dumps(COLLECT | changes).encode()
