"""The child side of the sandbox: limits first, then one JSON line of requests in, one of answers out, for ever.

Started by `qcompute.circuits.sandbox`; everything it is asked comes from strangers. It has no environment of its
parent, no file descriptors but the two pipes, no right to write files, and dies with its parent. An entry that runs
the operator's own code (``trusted``) keeps files and network.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000

LIFETIME_CPU_SECONDS: Final = 3600
"""The hard limit of a child's CPU time; the parent replaces it long before."""

_WEARS: Final = frozenset({"sandbox_memory", "sandbox_error"})
"""Refusals after which a child is not used again: memory is rarely all given back, and a panic leaves locks behind."""

_LEAST_MEMORY_LEFT: Final = 0.25
"""What is loaded only with the first circuit that needs it counts too. With half, every child was worn by its first
honest circuit, and each job paid for the start of a new one."""

ENOUGH_SECONDS: Final = 0.5
"""After so long a child answers what it has done of the requests that share an exchange."""

Handler = Callable[[dict[str, Any]], dict[str, Any]]


def main() -> None:
    """Run as ``… <entry> <limits as JSON> <pid of the parent>``."""
    entry, limits, parent = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    _die_with(parent)
    if not limits["trusted"]:
        _cut_off()
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    _silence()
    _limit(limits)
    tempfile.tempdir = str(Path.cwd())  # libraries look for one by writing a file, which the limits forbid
    module, _, function = entry.partition(":")
    loaded = importlib.import_module(module)
    handler: Handler = getattr(loaded, function)
    if (warm_up := getattr(loaded, "warm_up", None)) is not None:
        warm_up()
    used = _address_space if limits["counts_address_space"] else _data
    spare = limits["memory_bytes"] - used()
    gc.collect()
    gc.freeze()  # a look for garbage need not walk through all of qiskit each time
    _send(replies, {"ready": True})
    for line in requests:
        message = json.loads(line)
        _allow_cpu(message["cpu_seconds"])
        answers: list[dict[str, Any]] = []
        worn, began = False, time.monotonic()
        for request in message["requests"]:
            answers.append(_handled(handler, message["shared"] | request))
            worn = _is_worn(answers[-1], (limits["memory_bytes"] - used()) / spare)
            if worn or time.monotonic() - began > ENOUGH_SECONDS:
                break  # the rest is for another child, or for another exchange
        _send(replies, {"answers": answers, "worn": worn})


def _handled(handler: Handler, request: dict[str, Any]) -> dict[str, Any]:
    from qcompute.errors import CannotRun  # noqa: PLC0415 - after the limits are set

    try:
        return {"reply": handler(request)}
    except CannotRun as refusal:
        return {"refusal": {"reason": refusal.reason, "message": refusal.message, "line": refusal.line}}
    except MemoryError:
        return {"refusal": {"reason": "sandbox_memory", "message": "", "line": None}}
    except RecursionError:
        return {"refusal": {"reason": "too_deep", "message": "the circuit is nested too deeply", "line": None}}
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - Rust panics are BaseExceptions; no text of theirs may leave
        return {"refusal": {"reason": "sandbox_error", "message": type(error).__name__, "line": None}}


def _is_worn(answer: dict[str, Any], memory_left: float) -> bool:
    """Whether the next call belongs to a new child: one honest circuit was refused for what a bomb before it had left.

    ``memory_left`` is the part of the memory free at the start that is free now.
    """
    refused_for = answer.get("refusal", {}).get("reason")
    return refused_for in _WEARS or memory_left < _LEAST_MEMORY_LEFT or _used_cpu_seconds() > LIFETIME_CPU_SECONDS / 2


def _die_with(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)  # it died between our start and the line above


def _cut_off() -> None:
    """No network, where the kernel lets us: a circuit has nothing to say to anybody."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def _silence() -> None:
    """Point the standard descriptors at nothing: what libraries print must not mix with replies."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.close(nothing)


def _limit(limits: dict[str, Any]) -> None:
    memory, files = limits["memory_bytes"], limits["open_files"]
    counted = resource.RLIMIT_AS if limits["counts_address_space"] else resource.RLIMIT_DATA
    resource.setrlimit(counted, (memory, memory))
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if not limits["trusted"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (LIFETIME_CPU_SECONDS, LIFETIME_CPU_SECONDS))


def _allow_cpu(seconds: float) -> None:
    """Let this call use so much more CPU time; above it the kernel ends the process, whatever holds the GIL."""
    soft = min(int(_used_cpu_seconds() + seconds) + 1, LIFETIME_CPU_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, LIFETIME_CPU_SECONDS))


def _address_space() -> int:
    """Bytes of it in use, which is what the limit on memory counts."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _data() -> int:
    """Bytes mapped for writing, which is what the limit on data counts."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5]) * resource.getpagesize()


def _used_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _send(replies: IO[bytes], message: dict[str, Any]) -> None:
    replies.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
    replies.flush()
