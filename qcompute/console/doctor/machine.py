"""The machine: Python, room on the disk, the ledger's file, the axon's port."""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import aiohttp

from qcompute.axon.settings import AxonSettings
from qcompute.console.doctor.findings import Finding, failed, ok, unknown, warning
from qcompute.errors import ConfigError, DeliveryError
from qcompute.jobserver.web import new_session, read_object
from qcompute.ledger.moved import refuse_half_moved, refuse_to_begin
from qcompute.ledger.settings import LedgerSettings

OLDEST_PYTHON: Final = (3, 11)
LEAST_BYTES: Final = 200 << 20
"""With less a SQLite ledger stops within hours, as its log cannot grow any more."""
ROOMY_BYTES: Final = 2 << 30
ANSWER_SECONDS: Final = 5.0


def python() -> Finding:
    """The interpreter, and bittensor."""
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        return failed("python", f"Python {version} is too old", "make the environment anew with Python 3.11 or newer")
    try:
        bittensor = metadata.version("bittensor")
    except metadata.PackageNotFoundError:
        return failed("python", f"Python {version} without bittensor", "run `make install`, or pip install qcompute")
    return ok("python", f"Python {version} ({sys.executable}), bittensor {bittensor}")


def disk(directory: Path) -> Finding:
    """Room where the ledger lies, and whether this user may write there."""
    place = _nearest(directory)
    free = shutil.disk_usage(place).free
    words = f"{free / (1 << 30):.1f} GiB free in {directory}"
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        why = error.strerror or type(error).__name__
        return failed(
            "disk", f"{place} cannot be written: {why}", "make it writable for this user, or set neuron.full_path"
        )
    if free < LEAST_BYTES:
        return failed("disk", words, "make room, or put the miner's folder elsewhere with neuron.full_path")
    if free < ROOMY_BYTES:
        return warning("disk", words, "make room soon; miner.retention_days says how long closed jobs are kept")
    return ok("disk", words)


def ledger(settings: LedgerSettings) -> Finding:
    """The ledger: none yet, ours, or something the daemon will refuse."""
    if (finding := _on_its_way(settings)) is not None:
        return finding
    if settings.url is None and not settings.file.exists():
        return ok("ledger", f"{settings.file} is made at the first start")
    from qcompute.console.doctor.kept import looked_into  # noqa: PLC0415 - the database is loaded where there is one

    return looked_into(settings)


def _on_its_way(settings: LedgerSettings) -> Finding | None:
    """Of a ledger that was moved to Postgres, or half moved, what the daemon would refuse."""
    try:
        if settings.url is not None:
            refuse_half_moved(settings.file)
        elif not settings.file.exists():
            refuse_to_begin(settings.file)
    except ConfigError as error:
        return failed("ledger", error.message, "docs/how-to/postgres.md, Bring a file's jobs along, has the steps")
    return None


def _nearest(directory: Path) -> Path:
    """The folder itself, or the nearest above it that exists: the daemon makes the rest."""
    return next(folder for folder in (directory, *directory.parents) if folder.is_dir())


async def port(settings: AxonSettings) -> Finding:
    """Whether the axon's port is free, or a miner's already."""
    if settings.port == 0:
        return warning("axon port", "axon.port is 0: another port at every start", "set --axon.port to a fixed one")
    where = f"{settings.ip}:{settings.port}"
    try:
        with closing(_listening(settings)):
            return ok("axon port", f"{where} is free")
    except PermissionError:
        return failed("axon port", f"{where} needs privileges", "choose --axon.port above 1024")
    except OSError as error:
        why = error.strerror or type(error).__name__
    if await is_axon("127.0.0.1" if settings.ip in _ANY else settings.ip, settings.port):
        return ok("axon port", f"a miner serves on {where}")
    fix = "set --axon.ip and --axon.port to a free address of this machine, or stop what uses it: ss -ltnp"
    return failed("axon port", f"{where} cannot be used: {why}", fix)


async def outside(settings: AxonSettings) -> Finding:
    """Whether validators reach us, as far as that can be told from this machine."""
    subject = "axon from outside"
    if settings.external_ip is None:
        if settings.ip in _ANY:
            return failed(
                subject,
                "no address is published: validators do not find this miner",
                "set --axon.external_ip to the address validators reach this machine at",
            )
        return ok(subject, f"{settings.ip} is published as it is bound")
    ip, number = settings.external_ip, settings.external_port or settings.port
    ask = f"from another machine: curl -m 5 http://{ip}:{number}/health"
    try:
        listening = _listening(settings)
    except OSError:  # a miner has the port: then it answers
        is_reached = await is_axon(ip, number)
    else:
        is_reached = await _leads_to(ip, number, listening)
    if is_reached:
        return ok(subject, f"{ip}:{number} leads to this machine")
    return unknown(subject, f"{ip}:{number} is not reached from this machine; many routers do not lead back in", ask)


async def is_axon(ip: str, number: int) -> bool:
    """Whether a qcompute axon answers there."""
    async with new_session(total_seconds=ANSWER_SECONDS, connect_seconds=ANSWER_SECONDS) as session:
        try:
            async with session.get(f"http://{ip}:{number}/health", allow_redirects=False) as answer:
                facts: dict[str, Any] = await read_object(answer, "health")
        except (aiohttp.ClientError, DeliveryError, TimeoutError, OSError):
            return False
    return "accepting_jobs" in facts


_ANY: Final[Sequence[str]] = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def _listening(settings: AxonSettings) -> socket.socket:
    """A socket bound as the axon would be; raises OSError when it cannot be."""
    family = socket.AF_INET6 if ":" in settings.ip else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.ip, settings.port))
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


async def _leads_to(ip: str, number: int, listening: socket.socket) -> bool:
    """Whether who connects to the address hears a word that only this machine knows: a proxy takes any connection."""
    word = secrets.token_bytes(16)

    def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word)
        writer.close()

    async with await asyncio.start_server(say, sock=listening):
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_connection(ip, number)
                try:
                    return await reader.readexactly(len(word)) == word
                finally:
                    writer.close()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return False
