"""Which wallet, which network, how the metagraph is kept fresh."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

NETWORKS: Final = ("finney", "test", "archive", "devnet", "local")
"""The names bittensor 11 knows (its ``settings.NETWORKS``; a test compares them): to import it takes a second."""

_ADDRESSES: Final = ("ws://", "wss://")
"""What an address begins with, for bittensor too."""


def _network(given: str, info: ValidationInfo) -> str:
    """A network as bittensor takes it; with an endpoint beside it, any name: then it is only told to the platform."""
    if given in NETWORKS or given.startswith(_ADDRESSES) or info.data.get("chain_endpoint") is not None:
        return given
    near = difflib.get_close_matches(given.lower(), NETWORKS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"{given!r} is no network: write {', '.join(NETWORKS)}, or a node's address, ws://… or wss://…{hint}"
    )


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

    chain_endpoint: Annotated[str, AfterValidator(_network)] | None = None
    """An endpoint that is used instead of the network's own."""

    network: Annotated[str, AfterValidator(_network)] = Field(default="finney", min_length=1)
    """``finney``, ``test``, ``archive``, ``devnet``, ``local``, or a node's address ``ws://…`` or ``wss://…``."""


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
