"""How long a lane stays with its owner, and what keeps an owner that stood still from going on.

An owner tells the database twice a second that it lives: a *beat*. From the moment before the latest beat was sent the
lane is its own for `HELD_SECONDS`. Others take it when they have seen the same beat for `LEASE_SECONDS`, by their own
clocks: then no beat was sent since, so the owner's time is over, whatever its clock says. No clock is compared with
another machine's; they only have to run equally fast.

An owner that is stopped (SIGSTOP, a debugger, a machine without memory) in the middle of a paid call would send it when
it goes on, a minute later, when the new owner has already looked for the job and not found it. No check before the call
helps, because it may stop behind the check. So while paid calls are under way the kernel holds a timer,
``setitimer(ITIMER_REAL)``, which each beat sets anew and which ends with the lease. Its signal, SIGALRM with its
default action, is pending when the process is continued, and the kernel ends a process with a pending fatal signal
before it runs another instruction of it.

What is left:

- One thread takes the signal. Others that are continued on other processors at the same moment run until the kernel has
  told them too: microseconds.
- The timer stands still while the whole machine is suspended, or a virtual one is paused. A call in flight is then sent
  at the resume. Servers are not suspended; where that may happen, a vendor with idempotency tokens is still safe.
- A request that was sent before the end may reach the vendor after it, as late as networks deliver. The second look of
  `qcompute.miner.submit` is for that.
- A database that does not answer for the length of a lease ends a process in the middle of a paid call: another process
  might reach it. The process manager starts it again, and it looks for the job.
"""

from __future__ import annotations

import signal
import time
from typing import Final

LEASE_SECONDS: Final = 3.0
"""After so long without a beat a lane may be taken."""

HELD_SECONDS: Final = 2.5
"""For so long from the sending of a beat its sender counts on the lane."""

END_SECONDS: Final = 2.75
"""So long after the sending of the last beat a process in a paid call ends: before anybody else goes to work."""

BEAT_SECONDS: Final = 0.5
LOOK_SECONDS: Final = 0.25
"""How often those who wait for a lane look at its beat."""

_AT_ONCE: Final = 1e-6
"""Zero would switch the timer off."""


def now() -> float:
    """Seconds by a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class EndTimer:
    """The process's one real-time interval timer. Any thread may set it; callers see to the order.

    Not ``enforced`` it does nothing: a test's own time limit may use the same timer.
    """

    def __init__(self, *, enforced: bool) -> None:
        self._enforced = enforced

    def prepare(self) -> None:
        """Let the signal reach the calling thread, and nobody's handler. Call it on the main thread."""
        if self._enforced:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def admit(self) -> None:
        """Let the signal reach the calling thread, whatever was inherited."""
        if self._enforced:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})

    def end_process_at(self, moment: float) -> None:
        """End it then, by the clock of `now`; at once when that is past. Replaces what was set before."""
        if self._enforced:
            signal.setitimer(signal.ITIMER_REAL, max(moment - now(), _AT_ONCE))

    def cancel(self) -> None:
        """Let the process live."""
        if self._enforced:
            signal.setitimer(signal.ITIMER_REAL, 0)
