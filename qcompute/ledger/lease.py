"""How long a lane stays with its owner, and what keeps an owner that stood still from going on.

An owner tells the database twice a second that it lives: a *beat*. From the moment before the latest beat was sent the
lane is its own for `HELD_SECONDS`. Others take it when they have seen the same beat for `LEASE_SECONDS`, by their own
clocks: then no beat was sent since, so the owner's time is over, whatever its clock says. No clock is compared with
another machine's; they only have to run equally fast.

An owner that is stopped (SIGSTOP, a debugger, a machine without memory) in the middle of a paid call would send it when
it goes on, a minute later, when the new owner has already looked for the job and not found it. No check before the call
helps, because it may stop behind the check. So while paid calls are under way the kernel holds a timer, which each beat
sets anew and which kills the process when the lease ends, where it stands: `qcompute.ledger.end_timer`.

What is left:

- A virtual machine that is paused as a whole, with its clocks, does not know of it. A call in flight is sent when it
  goes on. Where that may happen, a vendor with idempotency tokens is still safe.
- A request that was sent before the end may reach the vendor after it, as late as networks deliver. The second look of
  `qcompute.miner.submit` is for that.
- A database that does not answer for the length of a lease ends a process in the middle of a paid call: another process
  might reach it. The process manager starts it again, and it looks for the job.
"""

from __future__ import annotations

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


def now() -> float:
    """Seconds by a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
