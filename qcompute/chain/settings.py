"""Which wallet, which network, how the metagraph is kept fresh."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class WalletSettings(BaseModel):
    """The bittensor wallet whose hotkey is registered on the subnet. Only the hotkey is ever opened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="default", min_length=1)
    """Name of the wallet's folder."""

    hotkey: str = Field(default="default", min_length=1)
    """Name of the hotkey within the wallet."""

    path: Path = Path("~/.bittensor/wallets")
    """Folder of all wallets; btcli's own default."""


class SubtensorSettings(BaseModel):
    """Which chain."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str = Field(default="finney", min_length=1)
    """``finney``, ``test``, ``local``, or an endpoint ``wss://…``."""

    chain_endpoint: str | None = None
    """An endpoint that is used instead of the network's own."""


class ChainSettings(BaseModel):
    """How the view of the chain is kept fresh."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metagraph_file: Path | None = None
    """A JSON file with the metagraph, for local runs without any chain; read again when it changes."""

    refresh_seconds: float = Field(default=300, gt=0)
    """How often the metagraph is read; permits change once an epoch (72 minutes)."""

    timeout_seconds: float = Field(default=60, gt=0)
    """The longest one chain operation may take before it counts as failed."""

    cache_file: Path | None = None
    """Where the last metagraph is kept so that a restart during a chain outage still serves; beside the ledger when
    not set."""
