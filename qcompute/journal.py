"""A file of JSON documents that grows at its end, synced once for all who wait: group commit.

A record is one line: a checksum, when it was, its name, and the document. A line that a power cut has torn fails its
checksum and is none. What was dropped leaves the file when `compact` writes it anew.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import threading
import zlib
from pathlib import Path
from typing import Any, Final, NamedTuple

from qcompute.files import sync_folder

_log = logging.getLogger(__name__)

_WASTE_BYTES: Final = 16 << 20
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


class _Place(NamedTuple):
    offset: int
    length: int
    at: float


class Journal:
    """Documents by name, which has no space; thread-safe. One at a time has the file, also in one process.

    A document outlasts the process after `append`, and a power cut after a `sync` that began later. After a sync that
    failed nothing can be told of what the file holds, so the next `append` writes it anew first.

    Raises:
        BlockingIOError: another process has the file.
        OSError: it cannot be read or created.
    """

    def __init__(self, file: Path, *, waste_bytes: int = _WASTE_BYTES) -> None:
        self._file = file
        self._waste_bytes = waste_bytes
        self._lock = threading.Lock()
        self._syncing = threading.Lock()  # taken before the other one
        self._index: dict[str, _Place] = {}
        self._size = self._live = 0
        self._appended = self._synced = 0
        self._is_torn = self._is_doubtful = False
        self._descriptor = _open_locked(file)
        self._load()
        os.fdatasync(self._descriptor)  # what a killed process had not synced is told of from now on
        sync_folder(file.parent)

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def names(self) -> list[tuple[float, str]]:
        """When each document is of, and its name; in the order they were appended."""
        with self._lock:
            return [(place.at, name) for name, place in self._index.items()]

    def append(self, name: str, document: dict[str, Any], at: float) -> None:
        """Keep a document; of two with one name the later. Raises OSError when it is not kept."""
        line = _line(name, document, at)
        if self._is_doubtful:
            self.compact()
        with self._lock:
            if self._is_torn:
                os.ftruncate(self._descriptor, self._size)
                self._is_torn = False
            try:
                _write(self._descriptor, line)
            except OSError:
                self._is_torn = True
                raise
            self._put(name, _Place(self._size, len(line), at))
            self._size += len(line)
            self._appended += 1

    def sync(self) -> None:
        """Wait until all that was appended is on the disk. Raises OSError when it may not be."""
        wanted = self._appended
        with self._syncing:  # who comes in next syncs for all who came meanwhile
            if self._synced >= wanted:
                return
            if self._is_doubtful:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            upto = self._appended
            try:
                os.fdatasync(self._descriptor)
            except OSError:
                self._is_doubtful = True
                raise
            self._synced = upto

    def read(self, name: str) -> dict[str, Any] | None:
        """The document of that name; None when there is none."""
        with self._lock:
            place = self._index.get(name)
            if place is None:
                return None
            line = os.pread(self._descriptor, place.length, place.offset)
        return json.loads(line.split(b" ", 3)[3])

    def drop(self, name: str) -> None:
        """Forget a document. A process that comes later may find it again."""
        with self._lock:
            place = self._index.pop(name, None)
            self._live -= place.length if place else 0

    @property
    def is_wasteful(self) -> bool:
        """Whether most of the file is of documents that were dropped."""
        return self._size - self._live > max(self._live, self._waste_bytes)

    def compact(self) -> None:
        """Write the file anew without what was dropped. Raises OSError, and then the old one is still used."""
        draft = self._file.with_name(f"{self._file.name}.draft")
        with self._syncing, self._lock:
            try:
                fresh, index, size = self._copy(draft)
            except OSError:
                draft.unlink(missing_ok=True)
                self._waste_bytes = max(self._waste_bytes, 2 * self._size)  # not at every call
                raise
            os.close(self._descriptor)
            self._descriptor, self._index = fresh, index
            self._size = self._live = size
            self._synced = self._appended
            self._is_torn = False
            try:
                sync_folder(self._file.parent)
            except OSError:
                self._is_doubtful = True  # a power cut may bring back the old file, without what is appended now
                raise
            self._is_doubtful = False

    def close(self) -> None:
        """Let another process have it. Nothing can be appended or read afterwards."""
        with self._syncing, self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1

    def _copy(self, draft: Path) -> tuple[int, dict[str, _Place], int]:
        draft.unlink(missing_ok=True)
        fresh = _open_locked(draft)
        try:
            index: dict[str, _Place] = {}
            size = 0
            with open(fresh, "ab", closefd=False) as stream:
                for name, place in self._index.items():
                    stream.write(os.pread(self._descriptor, place.length, place.offset))
                    index[name] = place._replace(offset=size)
                    size += place.length
            os.fsync(fresh)
            draft.replace(self._file)
        except OSError:
            os.close(fresh)
            raise
        return fresh, index, size

    def _load(self) -> None:
        broken = 0
        with open(self._descriptor, "rb", closefd=False) as lines:
            lines.seek(0)
            for line in lines:
                head = _head(line)
                if head is not None:
                    self._put(head[0], _Place(self._size, len(line), head[1]))
                elif not line.endswith(b"\n"):
                    os.ftruncate(self._descriptor, self._size)
                    break
                else:
                    broken += 1
                self._size += len(line)
        if broken:
            _log.warning("%s: %d broken lines are ignored", self._file, broken, extra={"action": "journal"})

    def _put(self, name: str, place: _Place) -> None:
        before = self._index.get(name)
        self._live += place.length - (before.length if before else 0)
        self._index[name] = place


def _open_locked(file: Path) -> int:
    """A descriptor of the file that has this name once it is locked: another process may just have replaced it."""
    while True:
        descriptor = os.open(file, _FLAGS, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # lockf would let this process in twice
            if os.fstat(descriptor).st_ino == file.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EACCES, errno.EAGAIN):
                raise BlockingIOError(errno.EAGAIN, "another process has it") from None
            raise
        os.close(descriptor)


def _write(descriptor: int, line: bytes) -> None:
    if os.write(descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _line(name: str, document: dict[str, Any], at: float) -> bytes:
    rest = f"{at!r} {name} {json.dumps(document)}".encode()
    return b"%08x %s\n" % (zlib.crc32(rest), rest)


def _head(line: bytes) -> tuple[str, float] | None:
    """Name and time of a record; None for what is no whole record."""
    if not line.endswith(b"\n") or line[:8] != b"%08x" % zlib.crc32(line[9:-1]):
        return None
    _, at, name, _ = line.split(b" ", 3)
    return name.decode(), float(at)
