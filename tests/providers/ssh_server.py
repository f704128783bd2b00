"""A real sshd for the tests, on loopback with keys of its own. Debian's ``openssh-server`` (`make sshd`)."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.ledger.postgres_server import free_port

_SSHD: Final = Path("/usr/sbin/sshd")
_SEPARATION: Final = Path("/run/sshd")
START_SECONDS: Final = 30.0

_SERVER: Final = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
{more}
"""
_CLIENT: Final = """\
Host {names}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/user
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking yes
"""
_ENDS_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "--")


class NoSshd(Exception):
    """There is no sshd to test with."""


class SshServer:
    """Answers to ``names``, all of them this machine; ``client`` is the configuration of a client that may log in."""

    def __init__(self, *names: str, environment: dict[str, str] | None = None) -> None:
        if not _SSHD.exists():
            raise NoSshd("these tests need an ssh server: run `make sshd`, which installs Debian's")
        if os.getuid() == 0:
            _SEPARATION.mkdir(exist_ok=True)  # sshd insists on it, and it goes with each boot
        self.folder = Path(tempfile.mkdtemp(prefix="qcompute-ssh-"))
        self.port = free_port()
        for key in ("host", "user"):
            command = ("/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key))
            subprocess.run(command, check=True)  # noqa: S603 - our own words
        public = (self.folder / "host.pub").read_text(encoding="ascii")
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}", encoding="ascii")
        variables = " ".join(f"{name}={value}" for name, value in (environment or {}).items())
        more = f"SetEnv {variables}" if variables else ""
        (self.folder / "sshd_config").write_text(_SERVER.format(port=self.port, folder=self.folder, more=more))
        facts = {"names": " ".join(names), "port": self.port, "user": getpass.getuser(), "folder": self.folder}
        self.client = self.folder / "ssh_config"
        self.client.write_text(_CLIENT.format(**facts), encoding="ascii")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - as above
                [*_ENDS_WITH_US, str(_SSHD), "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"sshd did not start: {(self.folder / 'log').read_text()}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Take no further connections; those that are open go on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=15)
            self._process = None

    def remove(self) -> None:
        """End it and delete its files."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
