"""What the axon hands to the daemon and what it gets back: one verified request, one reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from qcompute.miner.job import Nonce
from qcompute.protocol import CircuitSynapse, ExecutionData, ExecutionStatus
from qcompute.units import Hotkey


class Scheme(StrEnum):
    """How a request was signed."""

    DENDRITE = "dendrite"
    BTAUTH = "btauth/1"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking, taken from verified headers alone. ``uid`` is None for an allowed hotkey outside the subnet."""

    hotkey: Hotkey
    uid: int | None
    scheme: Scheme


@dataclass(frozen=True, slots=True)
class VerifiedRequest:
    """A request whose signature, receiver, freshness and permission were checked.

    Its nonce is not yet used up: the receiver of the request must do that in the ledger, together with the job.
    """

    caller: Caller
    nonce: Nonce
    synapse: CircuitSynapse


@dataclass(frozen=True, slots=True)
class Reply:
    """What the validator's dendrite gets. A definite refusal is ``success=False`` with a message for the user."""

    success: bool
    last_circuit: str
    error_message: str | None = None
    rate_limited: bool = False
    execution_status: ExecutionStatus = ExecutionStatus.PENDING
    finished: Sequence[ExecutionData] = field(default_factory=tuple[ExecutionData, ...])


class Forward(Protocol):
    """The daemon's side of the axon: answers within milliseconds, downloads and submits nothing.

    Raises `qcompute.errors.NotAllowed` for a used nonce, `qcompute.errors.StoreError` when the ledger fails.
    """

    async def __call__(self, request: VerifiedRequest) -> Reply:
        """Answer one verified request."""
        ...
