"""A network of a process's own that can be cut: a network namespace, and a relay from it to ports of this machine.

Nothing in it is closed or reset when it is cut: packets just do not arrive any more, as when somebody pulls a cable. A
user without rights may make one where user namespaces are allowed.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final

_LISTEN: Final = """
import socket, sys
inside = socket.create_server(("127.0.0.1", int(sys.argv[1])))
with socket.socket(fileno=int(sys.argv[2])) as way_out:
    socket.send_fds(way_out, [b"x"], [inside.fileno()])
"""


class CutOff(Exception):
    """The machine allows no network namespace."""


class Network:
    """A namespace with a loopback interface only, on which chosen ports lead to the same ports outside."""

    def __init__(self) -> None:
        script = "ip link set lo up && echo up && exec cat"
        self._holder = subprocess.Popen(  # noqa: S603 - our own words
            ["unshare", "--map-root-user", "--net", "sh", "-c", script],  # noqa: S607 - of the system's path
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if self._holder.stdout is None or self._holder.stdout.readline() != b"up\n":
            _, words = self._holder.communicate()
            raise CutOff(words.decode().strip())
        self._sockets: list[socket.socket] = []

    @property
    def enter(self) -> list[str]:
        """What to put before a command so that it runs in here, as the same user."""
        target = ["--target", str(self._holder.pid)]
        return ["nsenter", "--user", "--net", "--preserve-credentials", *target, "--"]

    def lead_out(self, port: int) -> None:
        """Let connections in here to a port reach that port of the machine."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = [*self.enter, sys.executable, "-c", _LISTEN, str(port), str(theirs.fileno())]
            subprocess.run(command, pass_fds=[theirs.fileno()], check=True)  # noqa: S603 - our own words
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        listener = socket.socket(fileno=descriptors[0])
        self._sockets.append(listener)
        threading.Thread(target=self._accept, args=(listener, port), daemon=True).start()

    def cut(self) -> None:
        """Deliver nothing any more."""
        self._set("down")

    def mend(self) -> None:
        """Deliver again, also what was sent meanwhile and is repeated."""
        self._set("up")

    def close(self) -> None:
        """End everything but the processes inside, which are their starters' to end."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._holder.communicate()

    def _set(self, state: str) -> None:
        subprocess.run([*self.enter, "ip", "link", "set", "lo", state], check=True)  # noqa: S603 - our own words

    def _accept(self, listener: socket.socket, port: int) -> None:
        with suppress(OSError):
            while True:
                inside, _ = listener.accept()
                try:
                    outside = socket.create_connection(("127.0.0.1", port))
                except OSError:
                    inside.close()
                    continue
                self._sockets += [inside, outside]
                for source, target in ((inside, outside), (outside, inside)):
                    threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def own_network(*ports: int) -> Generator[Network]:
    """A network from which these ports of the machine can be reached."""
    network = Network()
    try:
        for port in ports:
            network.lead_out(port)
        yield network
    finally:
        network.close()
