"""Disks that fail under a running miner: one that is really full, and one whose kernel refuses what it is asked.

`SmallDisk` is a tmpfs of a few megabytes in a mount namespace of its own, which a user without rights may make where
user namespaces are allowed. `RefusingDisk` needs no rights at all: the miner's system calls that change files are
answered with an error of the test's choice instead of being done (seccomp user notification), so it is what shows a
file system that turns read-only or cannot be read from while files on it are open.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from qcompute.local.miner_process import MinerProcess
from tests.crash import surroundings_launcher

_RECEIVE: Final = 0xC0502100
_SEND: Final = 0xC0182101
_REQUEST: Final = struct.Struct("=QIIiIQ6Q")
_REPLY: Final = struct.Struct("=QqiI")
_GO_ON: Final = 1
_LOOK_MILLISECONDS: Final = 50
_MEBIBYTE: Final = 1 << 20


def launched(options: dict[str, Any]) -> type[MinerProcess]:
    """A miner started by `surroundings_launcher` with these options."""

    class Launched(MinerProcess):
        """The same miner in other surroundings."""

        @override
        def command(self) -> list[str]:
            python, _, *flags = super().command()
            return [python, surroundings_launcher.__file__, json.dumps(options), *flags]

    return Launched


class RefusingDisk:
    """Answers the miner's wishes to write below ``folder``; refuses with `error` (an errno) while that is set."""

    def __init__(self, folder: Path) -> None:
        self.error: int | None = None
        self.refused = 0
        self._folder = str(folder)
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        # The names of sockets are short, those of test folders are not.
        self._home = tempfile.TemporaryDirectory(prefix="disk-")
        self.socket_path = str(Path(self._home.name) / "s")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket_path)
        self._listener.listen()
        self._spawn(self._take_miners)

    def close(self) -> None:
        """End all threads; a miner that still runs is stuck at its next write."""
        self._ending.set()
        self._listener.close()
        for thread in self._threads:
            thread.join()
        self._home.cleanup()

    def _spawn(self, target: Any, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _take_miners(self) -> None:
        self._listener.settimeout(_LOOK_MILLISECONDS / 1000)
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                miner, _ = self._listener.accept()
                with miner:
                    miner.settimeout(10)
                    _, (descriptor, *_), _, _ = socket.recv_fds(miner, 16, 1)
                self._spawn(self._answer, descriptor)

    def _answer(self, descriptor: int) -> None:
        ready = select.poll()
        ready.register(descriptor, select.POLLIN)
        try:
            while not self._ending.is_set():
                for _, event in ready.poll(_LOOK_MILLISECONDS):
                    if event & select.POLLHUP:
                        return
                    self._answer_one(descriptor)
        finally:
            os.close(descriptor)

    def _answer_one(self, descriptor: int) -> None:
        request = bytearray(_REQUEST.size)
        # The thread that asked may be gone by now.
        with contextlib.suppress(FileNotFoundError):
            fcntl.ioctl(descriptor, _RECEIVE, request)
            identity, process, _, _, _, _, file, *_ = _REQUEST.unpack(request)
            refuse = self.error is not None and self._is_ours(process, file)
            self.refused += refuse
            reply = (identity, 0, -(self.error or 0), 0) if refuse else (identity, 0, 0, _GO_ON)
            fcntl.ioctl(descriptor, _SEND, bytearray(_REPLY.pack(*reply)))

    def _is_ours(self, process: int, file: int) -> bool:
        try:
            return str(Path(f"/proc/{process}/fd/{ctypes.c_int(file).value}").readlink()).startswith(self._folder)
        except OSError:
            return False


class SmallDisk:
    """A file system of a few megabytes at ``folder``, seen by the miner and, through `outside`, by the test."""

    def __init__(self, folder: Path, mebibytes: int) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        script = f'mount -t tmpfs -o size={mebibytes}m tmpfs "$0" && echo mounted && exec cat'
        self._holder = subprocess.Popen(  # noqa: S603 - our own words
            ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(folder)],  # noqa: S607
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if self._holder.stdout is None or self._holder.stdout.readline() != b"mounted\n":
            _, words = self._holder.communicate()
            raise OSError(errno.EPERM, f"no tmpfs can be mounted in a user namespace: {words.decode().strip()}")

    @property
    def outside(self) -> Path:
        """Its folder as processes outside see it."""
        return Path(f"/proc/{self._holder.pid}/root{self._folder}")

    def fill(self) -> None:
        """Take every byte that is left."""
        with (self.outside / "ballast").open("wb", buffering=0) as ballast:
            for size in (_MEBIBYTE, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        ballast.write(b"x" * size)

    def free(self) -> None:
        """Give it back."""
        (self.outside / "ballast").unlink()

    def set_read_only(self, *, read_only: bool) -> None:
        """What an operator does with ``mount -o remount``; possible while nothing on it is open for writing."""
        mode = "ro" if read_only else "rw"
        command = [*self._enter(), "mount", "-o", f"remount,{mode}", str(self._folder)]
        subprocess.run(command, check=True)  # noqa: S603

    def miner_process(self) -> type[MinerProcess]:
        """A miner whose data lies on this disk."""
        enter, outside = self._enter(), self

        class OnSmallDisk(MinerProcess):
            """The same miner within the namespace."""

            @override
            def command(self) -> list[str]:
                return [*enter, f"--wdns={self.folder}", *super().command()]

            @property
            @override
            def ledger_path(self) -> Path:
                return outside.outside / "ledger.sqlite3"

        return OnSmallDisk

    def close(self) -> None:
        """Unmount it, with everything on it."""
        self._holder.communicate()

    def _enter(self) -> list[str]:
        return ["nsenter", "--preserve-credentials", "--user", "--mount", f"--target={self._holder.pid}"]


@contextmanager
def refusing_disk(folder: Path) -> Generator[RefusingDisk]:
    """A `RefusingDisk` until the end of the block."""
    disk = RefusingDisk(folder)
    try:
        yield disk
    finally:
        disk.close()


@contextmanager
def small_disk(folder: Path, mebibytes: int = 16) -> Generator[SmallDisk]:
    """A `SmallDisk` until the end of the block."""
    disk = SmallDisk(folder, mebibytes)
    try:
        yield disk
    finally:
        disk.close()


@contextmanager
def locked_by_another(ledger: Path) -> Generator[None]:
    """Another process keeps the database locked, as a shell with an open transaction does."""
    script = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)\n"
        "c.execute('BEGIN EXCLUSIVE')\nprint('locked', flush=True)\nsys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(ledger)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:  # noqa: S603
        try:
            if holder.stdout is None or holder.stdout.readline() != b"locked\n":
                raise RuntimeError("the database could not be locked from outside")
            yield
        finally:
            holder.kill()
