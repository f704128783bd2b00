"""A metagraph from a file: private runs and tests without any chain."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import override

from qcompute.chain.contract import AxonEndpoint, Chain, Metagraph, Neuron
from qcompute.errors import ConfigError
from qcompute.faults import first_fault
from qcompute.units import Hotkey, utc_now

_log = logging.getLogger(__name__)


class _NeuronEntry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    hotkey: str
    uid: int = Field(ge=0)
    validator_permit: bool = False
    stake: float = Field(default=0.0, ge=0)
    axon: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    netuid: int = 48
    block: int = 0
    neurons: list[_NeuronEntry]


class StaticChain(Chain):
    """A JSON file, read at each call.

    ``{"netuid": 48, "block": 1, "neurons": [{"hotkey": …, "uid": 1, "validator_permit": true, "stake": 5000}]}``
    """

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser()

    @override
    async def metagraph(self) -> Metagraph:
        """Read the file now.

        Raises:
            ConfigError: it cannot be read or is not a metagraph; names the setting.
        """
        file = await asyncio.to_thread(self._read)
        neurons = {
            Hotkey(entry.hotkey): Neuron(
                entry.uid, Hotkey(entry.hotkey), entry.validator_permit, entry.stake, entry.axon
            )
            for entry in file.neurons
        }
        return Metagraph(file.netuid, file.block, utc_now(), neurons)

    @override
    async def publish_axon(self, endpoint: AxonEndpoint) -> None:
        """Only said in the log: a file has nobody to publish to."""
        _log.info("static metagraph: not publishing %s:%d", endpoint.ip, endpoint.port, extra={"action": "publish"})

    @override
    async def close(self) -> None:
        """Nothing to close."""

    def _read(self) -> _File:
        try:
            return _File.model_validate(json.loads(self._path.read_text(encoding="utf-8")))
        except OSError as error:
            reason = error.strerror or type(error).__name__
        except ValidationError as error:
            reason = first_fault(error)
        except ValueError:
            reason = "not JSON"
        raise ConfigError(f"chain.metagraph_file {self._path}: {reason}")
