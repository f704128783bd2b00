"""The unmodified ``neurons/miner.py`` as a child process, with its folder, wallet and static metagraph."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from qcompute.chain.contract import Signer
from qcompute.chain.keys import create_wallet, load_signer
from qcompute.chain.settings import WalletSettings
from qcompute.errors import QComputeError
from qcompute.units import Hotkey

_ROOT: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 60.0
STAKE: Final = 100_000.0
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")


class MinerDied(QComputeError):
    """The miner's process ended before it served."""

    code = "miner_died"


class MinerProcess:
    """A miner in ``folder``. `start` and `kill` may alternate: folder, wallet and ledger stay."""

    def __init__(
        self, folder: Path, *, validators: Sequence[Hotkey], provider: str, environment: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.log = folder / "miner.log"
        self.axon_port = 0
        self.operator_port = 0
        self.process: asyncio.subprocess.Process | None = None
        self._provider = provider
        self._environment = dict(environment)
        self.signer = self._wallet()
        self._write_metagraph(validators)

    @property
    def operator_url(self) -> str:
        """Base URL of the operator port."""
        return f"http://127.0.0.1:{self.operator_port}"

    @property
    def ledger_path(self) -> Path:
        """The ledger's file."""
        return self.folder / "data" / "ledger.sqlite3"

    async def start(self, **environment: str) -> None:
        """Start it and wait until it serves.

        Raises:
            MinerDied: it ended, or did not serve in time; carries its last log lines.
        """
        ready = self.folder / "ready.json"
        ready.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command(),
                cwd=self.folder,
                env=self.full_environment() | environment,
                stdout=log,
                stderr=log,
            )
        try:
            facts = await asyncio.wait_for(self._facts(ready), START_SECONDS)
        except TimeoutError:
            facts = None
        if facts is None:
            await self.kill()
            raise MinerDied(f"the miner did not start; its last words:\n{self.last_lines()}")
        self.axon_port, self.operator_port = facts["axon_port"], facts["operator_port"]

    async def stop(self, limit_seconds: float = 40.0) -> int:
        """SIGTERM, and the exit code; a miner that does not end in time is killed."""
        if self.process is None:
            return 0
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.process.wait(), limit_seconds)
        except TimeoutError:
            await self.kill()
            return -signal.SIGKILL

    async def kill(self) -> None:
        """SIGKILL, and wait for the end; a no-op when it has ended."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    def last_lines(self, count: int = 15) -> str:
        """The end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        except FileNotFoundError:
            return ""

    async def _facts(self, ready: Path) -> dict[str, Any] | None:
        while self.process is not None and self.process.returncode is None:
            if (text := await asyncio.to_thread(_text_of, ready)) is not None:
                return json.loads(text)
            await asyncio.sleep(0.05)
        return None

    def _wallet(self) -> Signer:
        wallets = self.folder / "wallets"
        if not wallets.exists():
            return create_wallet("miner", "default", wallets)
        return load_signer(WalletSettings(name="miner", hotkey="default", path=wallets))

    def _write_metagraph(self, validators: Sequence[Hotkey]) -> None:
        neurons = [
            {"hotkey": hotkey, "uid": uid, "validator_permit": True, "stake": STAKE}
            for uid, hotkey in enumerate(validators, start=1)
        ]
        document = {"netuid": 48, "block": 1, "neurons": [{"hotkey": self.signer.hotkey, "uid": 0}, *neurons]}
        (self.folder / "metagraph.json").write_text(json.dumps(document))

    def command(self) -> list[str]:
        """The command line it is started with."""
        return [
            sys.executable,
            str(_ROOT / "neurons" / "miner.py"),
            *("--wallet.name", "miner"),
            *("--wallet.hotkey", "default"),
            *("--wallet.path", str(self.folder / "wallets")),
            *("--netuid", "48"),
            *("--subtensor.network", "local"),
            *("--axon.ip", "127.0.0.1"),
            *("--axon.port", "0"),
            *("--operator.port", "0"),
            *("--neuron.full_path", str(self.folder / "data")),
            *("--neuron.ready_file", str(self.folder / "ready.json")),
            *("--chain.metagraph_file", str(self.folder / "metagraph.json")),
        ]

    def full_environment(self) -> dict[str, str]:
        """All the environment it is given: nothing of ours but what it needs."""
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return passed_on | {"PROVIDER": self._provider, "PYTHONUNBUFFERED": "1"} | self._environment


def _text_of(file: Path) -> str | None:
    try:
        return file.read_text()
    except FileNotFoundError:
        return None
