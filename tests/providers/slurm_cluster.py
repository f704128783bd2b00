"""A real SLURM for the tests: a controller and two nodes as plain processes on loopback, in a folder of its own.

Debian's ``slurm-wlm`` (`make slurm`); no munge, no database. Both nodes are this machine, each with one CPU.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

import psutil

from tests.ledger.postgres_server import free_port

NODES: Final = ("n1", "n2")
START_SECONDS: Final = 60.0

_CONFIGURATION: Final = """\
ClusterName=qcompute
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmctldPort={port}
SlurmctldPidFile={folder}/ctld.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=200000,batch_sched_delay=0
SlurmdParameters=config_overrides
SlurmdTimeout=5
KillWait=2
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
{nodes}
PartitionName=simulators Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""
_NODE: Final = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 RealMemory=16000 State=UNKNOWN"
)


_ENDS_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "--")


class NoSlurm(Exception):
    """There is no SLURM to test with."""


class SlurmCluster:
    """A cluster with its own files, from `start` to `remove`."""

    def __init__(self) -> None:
        if shutil.which("slurmctld") is None or shutil.which("slurmd") is None:
            raise NoSlurm("these tests need SLURM: run `make slurm`, which installs Debian's")
        self.folder = Path(tempfile.mkdtemp(prefix="qcompute-slurm-"))
        self.conf = self.folder / "slurm.conf"
        host = socket.gethostname().partition(".")[0]
        nodes = "\n".join(_NODE.format(name=name, host=host, port=free_port()) for name in NODES)
        facts = {"host": host, "user": getpass.getuser(), "port": free_port(), "folder": self.folder, "nodes": nodes}
        self.conf.write_text(_CONFIGURATION.format(**facts), encoding="utf-8")
        (self.folder / "state").mkdir()
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start it and wait until both nodes are idle."""
        self._run("ctld", "slurmctld", "-D")
        for name in NODES:
            self.start_node(name)
        deadline = time.monotonic() + START_SECONDS
        while self.states() != dict.fromkeys(NODES, "idle"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"SLURM did not start: {(self.folder / 'ctld.log').read_text()[-2000:]}")
            time.sleep(0.1)

    def start_node(self, name: str) -> None:
        """Start a node, or start it again."""
        self._run(name, "slurmd", "-D", "-N", name)

    def kill_node(self, name: str) -> None:
        """As if its plug were pulled: its daemon, its steps and all they run."""
        roots = [psutil.Process(self._daemons[name].pid), *self._steps(name)]
        for victim in [process for root in roots for process in (root, *root.children(recursive=True))]:
            victim.send_signal(signal.SIGKILL)
        self._daemons.pop(name).wait()

    def states(self) -> dict[str, str]:
        """Each node's state in SLURM's word."""
        done = self._call("sinfo", "--noheader", "--Node", "--format=%N %t")
        return dict(line.split() for line in done.splitlines() if line.strip())

    def jobs(self) -> dict[str, tuple[str, str]]:
        """State and node of each job that is not over."""
        done = self._call("squeue", "--noheader", "--format=%i|%T|%N")
        fields = [line.split("|") for line in done.splitlines() if line.strip()]
        return {number: (state, node) for number, state, node in fields if state in ("PENDING", "RUNNING")}

    def end_at_walltime(self, number: str) -> None:
        """Let a running job reach its walltime now; SLURM looks at these at least twice a minute."""
        self._call("scontrol", "update", f"JobId={number}", "EndTime=now+1")

    def environment(self) -> dict[str, str]:
        """What the commands of SLURM need to find this one."""
        return {"SLURM_CONF": str(self.conf)}

    def remove(self) -> None:
        """End it and delete its files."""
        self._call("scancel", "--user", getpass.getuser())
        deadline = time.monotonic() + START_SECONDS / 4
        while self.jobs() and time.monotonic() < deadline:
            time.sleep(0.1)  # a step outlives the daemon of its node
        for daemon in self._daemons.values():
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self, name: str) -> list[psutil.Process]:
        """What runs the scripts of a node's jobs; it is no child of the node's daemon."""
        scripts = f"{self.folder}/spool-{name}/"
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                if any(word.startswith(scripts) for word in process.cmdline()):
                    found.extend(process.parents()[:1])
            except psutil.Error:
                continue
        return found

    def _call(self, *command: str) -> str:
        done = subprocess.run(  # noqa: S603 - programs of the system's packages
            command, env=os.environ | self.environment(), capture_output=True, text=True, timeout=30, check=False
        )
        return done.stdout

    def _run(self, label: str, *command: str) -> None:
        with (self.folder / f"{label}.log").open("ab") as log:
            self._daemons[label] = subprocess.Popen(  # noqa: S603 - as above
                [*_ENDS_WITH_US, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"} | self.environment(),
            )
