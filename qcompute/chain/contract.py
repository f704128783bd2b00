"""Who may call us, and how we are found: the only view of the chain the rest of the daemon has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from qcompute.units import Hotkey


@dataclass(frozen=True, slots=True)
class Neuron:
    """One hotkey of the subnet. ``stake`` is the total stake in the subnet's own units (alpha)."""

    uid: int
    hotkey: Hotkey
    validator_permit: bool
    stake: float
    axon: str | None = None
    """The published ``ip:port``, None when nothing is served."""


@dataclass(frozen=True, slots=True)
class Metagraph:
    """The subnet's neurons at one block."""

    netuid: int
    block: int
    fetched_at: datetime
    neurons: Mapping[Hotkey, Neuron]


@dataclass(frozen=True, slots=True)
class AxonEndpoint:
    """Where validators reach us."""

    ip: str
    port: int


class Signer(Protocol):
    """A hotkey that can sign. Never shows its secret."""

    @property
    def hotkey(self) -> Hotkey:
        """The ss58 address."""
        ...

    def sign(self, message: bytes) -> bytes:
        """A sr25519 signature (64 bytes, randomised) over ``message``."""
        ...


class Chain(ABC):
    """One subnet of one network."""

    @abstractmethod
    async def metagraph(self) -> Metagraph:
        """Read it now; raises `qcompute.errors.Unavailable` when the chain cannot be reached."""

    @abstractmethod
    async def publish_axon(self, endpoint: AxonEndpoint) -> None:
        """Publish where we serve; raises `qcompute.errors.Unavailable` or `Rejected` (not registered)."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connection."""
