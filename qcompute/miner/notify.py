"""Tells systemd what the daemon does, when systemd started it with ``Type=notify``; else nothing is done.

The protocol is one datagram a message to the socket that ``$NOTIFY_SOCKET`` names (systemd's ``sd_notify(3)``, which
recommends exactly this instead of a library). The watchdog's sign of life is sent from the event loop: a loop that
hangs sends none, and systemd starts the daemon again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import MutableMapping
from typing import Final, Self

_log = logging.getLogger(__name__)

SIGNS_IN_A_LIMIT: Final = 3
"""Signs of life in one limit of the watchdog; systemd advises two at least."""

_SOCKET, _LIMIT, _WATCHED_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class ServiceManager:
    """Whoever started us and wants to be told; ``address`` None: nobody."""

    def __init__(self, address: str | None, watchdog_seconds: float | None) -> None:
        self._address = address
        self.watchdog_seconds = watchdog_seconds if address else None

    @classmethod
    def of_this_process(cls) -> Self:
        """The one that the environment names. Its names are removed: our children must not speak for us."""
        return cls.named_in(os.environ, os.getpid())

    @classmethod
    def named_in(cls, environment: MutableMapping[str, str], pid: int) -> Self:
        """The one named in ``environment``, and its watchdog's limit if that is meant for ``pid``."""
        address = environment.pop(_SOCKET, "")
        limit, watched = environment.pop(_LIMIT, ""), environment.pop(_WATCHED_PID, "")
        meant = limit.isdecimal() and int(limit) > 0 and watched in ("", str(pid))
        return cls(address or None, int(limit) / 1e6 if meant else None)

    def ready(self, status: str) -> None:
        """The start is over, and requests are served."""
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The end has begun; a watchdog no longer counts."""
        self._tell("STOPPING=1\nSTATUS=stopping")

    async def keep_alive(self) -> None:
        """Send a sign of life again and again; returns only when cancelled. Without a watchdog it just waits."""
        if self.watchdog_seconds is None:
            await asyncio.Event().wait()
            return
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds / SIGNS_IN_A_LIMIT)

    def _tell(self, message: str) -> None:
        """Send, or log why not: a service manager that does not listen is no reason to stop serving."""
        if self._address is None:
            return
        # An address with @ is in Linux' abstract namespace, which the kernel spells with a zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode(), address)
        except OSError as error:
            _log.warning(
                "systemd could not be told %r: %s", message.partition("\n")[0], error, extra={"action": "notify"}
            )
