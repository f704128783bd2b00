"""Runs the real miner under a clock that can be set, on a disk that can fail, or without the rights of root.

``python surroundings_launcher.py OPTIONS MINER-FLAGS…``; ``OPTIONS`` is a JSON object. ``clock``: a file that holds by
how many seconds the clock is wrong; each change is acknowledged in ``FILE.done``. ``disk``: a Unix socket; the miner's
writes to files are first asked for there (see `surroundings_disk`). ``unprivileged``: give up all capabilities, so that
file modes hold for root as well.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import platform
import runpy
import socket
import sys
import threading
import time
import types
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final

import time_machine

_MINER: Final = Path(__file__).resolve().parents[2] / "neurons" / "miner.py"
_LOOK_SECONDS: Final = 0.01

_SET_NO_NEW_PRIVS: Final = 38
_SET_MODE_FILTER: Final = 1
_NEW_LISTENER: Final = 8
_ALLOW: Final = 0x7FFF0000
_ASK: Final = 0x7FC00000
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBERS: Final = {
    # seccomp, then what SQLite changes files with: pwrite64, ftruncate, fsync, fdatasync, fallocate
    "x86_64": (317, (18, 77, 74, 75, 285)),
    "aarch64": (277, (68, 46, 82, 83, 47)),
}
_CAPABILITY_VERSION: Final = 0x20080522


class _Step(ctypes.Structure):
    """One instruction of a filter (``struct sock_filter``)."""

    _fields_: ClassVar = [
        ("code", ctypes.c_ushort),
        ("jump_true", ctypes.c_ubyte),
        ("jump_false", ctypes.c_ubyte),
        ("value", ctypes.c_uint),
    ]


class _Filter(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_: ClassVar = [("length", ctypes.c_ushort), ("steps", ctypes.POINTER(_Step))]


def ask_before_writing(socket_path: str) -> None:
    """From now on every write of this process waits for whoever listens at the socket."""
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp, asked = _NUMBERS[platform.machine()]
    steps = [_Step(_LOAD_WORD, 0, 0, 0)]
    steps += [_Step(_JUMP_IF_EQUAL, len(asked) - place, 0, number) for place, number in enumerate(asked)]
    steps += [_Step(_RETURN, 0, 0, _ALLOW), _Step(_RETURN, 0, 0, _ASK)]
    program = _Filter(len(steps), (_Step * len(steps))(*steps))
    with socket.socket(socket.AF_UNIX) as to:
        to.connect(socket_path)
        libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        listener = libc.syscall(seccomp, _SET_MODE_FILTER, _NEW_LISTENER, ctypes.byref(program))
        if listener < 0:
            raise OSError(ctypes.get_errno(), "no system call can be watched here")
        socket.send_fds(to, [b"disk"], [listener])
        os.close(listener)


def give_up_rights() -> None:
    """Drop every capability of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header = (ctypes.c_uint * 2)(_CAPABILITY_VERSION, 0)
    if libc.capset(header, (ctypes.c_uint * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "the capabilities cannot be given up")


def follow_clock(file: Path) -> None:
    """Set this process's clock as the file says, again and again."""
    done = file.with_name(file.name + ".done")
    # The monotonic clock is left alone, as it is by a step of the real one, and tells what the time really is.
    real_minus_monotonic = time.time() - time.monotonic()
    shown = "0"
    while True:
        wanted = file.read_text()
        if wanted not in {shown, ""}:
            shows = time.monotonic() + real_minus_monotonic + float(wanted)
            time_machine.travel(datetime.fromtimestamp(shows, UTC), tick=True).start()
            done.write_text(wanted)
            shown = wanted
        time.sleep(_LOOK_SECONDS)


def keep_vendor_right() -> None:
    """Give the mock vendor, which lives in this process, its own clock: a real one does not step with ours."""
    sys.path.insert(0, str(_MINER.parents[1]))
    mock = importlib.import_module("qcompute.miner.providers.mock")
    real_minus_monotonic = time.time() - time.monotonic()
    right = types.SimpleNamespace(time=lambda: time.monotonic() + real_minus_monotonic, sleep=time.sleep)
    vars(mock)["time"] = right


def main() -> None:
    """Prepare the surroundings and become the miner."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    sys.argv = [str(_MINER), *sys.argv[2:]]
    if options.get("unprivileged"):
        give_up_rights()
    if clock := options.get("clock"):
        keep_vendor_right()
        threading.Thread(target=follow_clock, args=(Path(clock),), daemon=True).start()
    if disk := options.get("disk"):
        ask_before_writing(disk)
    runpy.run_path(str(_MINER), run_name="__main__")


if __name__ == "__main__":
    main()
