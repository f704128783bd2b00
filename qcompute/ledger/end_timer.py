"""A timer of the kernel that kills this process, with `timer_create(2)`, which Python does not offer.

Its signal is SIGKILL, the only one that ends a process where it stands: also one that is stopped, all of its threads at
once, whatever they block or handle. Its clock is that of `qcompute.ledger.lease.now`, which goes on while the machine
is suspended. The timer is this process's alone: what it forks or starts does not have it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from typing import Final

from qcompute.errors import ConfigError

_SIGEV_SIGNAL: Final = 0
_TIMER_ABSTIME: Final = 1
_NANOS: Final = 1_000_000_000


class _SignalEvent(ctypes.Structure):
    """``struct sigevent``: 64 bytes on every 64-bit Linux, of which a signal to the process uses the first fields."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("unused", ctypes.c_char * 48),
    )


class _Moment(ctypes.Structure):
    """``struct timespec``."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    """``struct itimerspec``; a moment of zero means never."""

    _fields_ = (("interval", _Moment), ("moment", _Moment))


class EndTimer:
    """One timer, for the rest of the process's life. Any thread may set it; callers see to the order.

    Not ``enforced`` it does nothing: for tests.

    Raises:
        ConfigError: the kernel gives none.
    """

    def __init__(self, *, enforced: bool) -> None:
        self._libc = _library() if enforced else None
        self._timer = ctypes.c_void_p()
        if self._libc is not None:
            event = _SignalEvent(signal=signal.SIGKILL, notify=_SIGEV_SIGNAL)
            made = self._libc.timer_create(time.CLOCK_BOOTTIME, ctypes.byref(event), ctypes.byref(self._timer))
            if made != 0:
                raise ConfigError(
                    f"the kernel gives no timer, which processes that share a ledger need ({_failure()}): "
                    "raise the limit on pending signals (ulimit -i)"
                )

    def end_process_at(self, moment: float) -> None:
        """End it then, by the clock of `qcompute.ledger.lease.now`; at once when that is past.

        Replaces what was set before.
        """
        seconds, rest = divmod(round(moment * _NANOS), _NANOS)
        self._set(_Moment(seconds, rest))

    def cancel(self) -> None:
        """Let the process live."""
        self._set(_Moment(0, 0))

    def _set(self, moment: _Moment) -> None:
        if self._libc is None:
            return
        setting = _Setting(_Moment(0, 0), moment)
        if self._libc.timer_settime(self._timer, _TIMER_ABSTIME, ctypes.byref(setting), None) != 0:
            # Without it a call might be paid that is not ours any more.
            os.kill(os.getpid(), signal.SIGKILL)


def _library() -> ctypes.CDLL:
    """The C library; where that is glibc before 2.34, the part of it that has timers."""
    library = ctypes.CDLL(None, use_errno=True)
    return library if hasattr(library, "timer_create") else ctypes.CDLL("librt.so.1", use_errno=True)


def _failure() -> str:
    return os.strerror(ctypes.get_errno())
