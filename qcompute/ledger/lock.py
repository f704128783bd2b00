"""One daemon for each ledger: two would submit, and pay for, the same jobs."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from qcompute.errors import ConfigError

_held: set[Path] = set()
_held_guard = threading.Lock()
"""A POSIX lock does not keep a process from locking its own file again, so this process remembers what it holds."""


class LedgerLock:
    """The right to be the one daemon on a ledger, from construction until `release` or the end of the process.

    The lock is a POSIX record lock, not ``flock``: that one would be inherited by a forked child and outlive a killed
    daemon with it. The file stays when the lock is released; removing it would let two daemons lock different files.

    Raises:
        ConfigError: another daemon has it; the message names its process and the setting.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        with _held_guard:
            if self._path in _held:
                raise _taken(path, str(os.getpid()))
            self._descriptor: int | None = _lock(path)
            _held.add(self._path)

    def release(self) -> None:
        """Let another daemon open the ledger; the second call does nothing."""
        with _held_guard:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
                _held.remove(self._path)


def _lock(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        message = f"The ledger's lock file {path} (setting ledger.path) cannot be created ({error.strerror})."
        raise ConfigError(message) from error
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
    except OSError as error:
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        os.close(descriptor)
        if isinstance(error, BlockingIOError | PermissionError):
            raise _taken(path, holder) from error
        raise ConfigError(f"The ledger's lock file {path} cannot be locked ({error.strerror}).") from error
    return descriptor


def _taken(path: Path, pid: str) -> ConfigError:
    return ConfigError(
        f"Process {pid or '(unknown)'} already works on this ledger and holds {path}. "
        "Stop it, or give this daemon its own file with the setting ledger.path."
    )
