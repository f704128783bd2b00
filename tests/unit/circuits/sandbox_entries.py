"""What sandboxed children run in the sandbox's own tests: honest and dishonest code."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from qcompute.errors import CannotRun


def act(request: dict[str, Any]) -> dict[str, Any]:
    """Do what ``request["do"]`` names."""
    return globals()["do_" + request["do"]](request)


def do_echo(request: dict[str, Any]) -> dict[str, Any]:
    return {"echo": request["text"], "pid": os.getpid()}


def do_environment(_: dict[str, Any]) -> dict[str, Any]:
    return {"environment": dict(os.environ), "cwd": [f.name for f in Path().iterdir()], "descriptors": _descriptors()}


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def do_refuse(_: dict[str, Any]) -> dict[str, Any]:
    raise CannotRun("line 3: no", reason="just_because", line=3)


def do_leak(_: dict[str, Any]) -> dict[str, Any]:
    raise ValueError("root:x:0:0 contents of a file")


def do_memory(_: dict[str, Any]) -> dict[str, Any]:
    return {"size": len(bytearray(8 << 30))}


def do_reserve(_: dict[str, Any]) -> dict[str, Any]:
    """Maps 8 GiB that nobody may write to, as CUDA does."""
    with mmap.mmap(-1, 8 << 30, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as reserved:
        return {"size": len(reserved)}


_HOARD: list[bytearray] = []


def do_hoard(request: dict[str, Any]) -> dict[str, Any]:
    _HOARD.append(bytearray(request["bytes"]))
    return {"pid": os.getpid()}


def do_spin(_: dict[str, Any]) -> dict[str, Any]:
    return {"digits": (9**9**9) % 7}


def do_sleep(request: dict[str, Any]) -> dict[str, Any]:
    time.sleep(request["seconds"])
    return {}


def do_write(_: dict[str, Any]) -> dict[str, Any]:
    try:
        Path("file").write_text("x")
    except OSError as error:
        return {"refused": error.errno}
    return {"refused": None}


def do_noise(_: dict[str, Any]) -> dict[str, Any]:
    sys.stdout.write("noise on stdout\n")
    os.write(1, b"more noise\n")
    os.write(2, b"and more\n")
    sys.stdout.flush()
    return {"quiet": True}


def do_huge(_: dict[str, Any]) -> dict[str, Any]:
    return {"text": "x" * (2 << 20)}


def do_abort(_: dict[str, Any]) -> dict[str, Any]:
    os.abort()


def do_segfault(_: dict[str, Any]) -> dict[str, Any]:
    ctypes.string_at(0)
    return {}


def do_hang_up(_: dict[str, Any]) -> dict[str, Any]:
    os.closerange(0, 64)
    time.sleep(600)
    return {}


def do_recurse(request: dict[str, Any]) -> dict[str, Any]:
    return do_recurse(request)


def do_connect(_: dict[str, Any]) -> dict[str, Any]:
    try:
        socket.create_connection(("127.0.0.1", 9), timeout=1).close()
    except OSError as error:
        return {"refused": error.errno}
    return {"refused": None}
