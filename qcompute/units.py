"""Values that must not be mixed up, each with its unit.

A bare ``str`` or ``float`` in a signature says nothing about which of the many ids or durations it is, and the
type checker cannot tell them apart either; these can.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NewType

ExecutionId = NewType("ExecutionId", str)
"""The platform's id of one job; unique for ever, chosen by the job server, carried by the validator."""

Hotkey = NewType("Hotkey", str)
"""An ss58 address of a sr25519 hotkey."""

ProviderKey = NewType("ProviderKey", str)
"""File name of an adapter in ``qcompute/miner/providers``: what ``PROVIDER=`` names."""

DeviceId = NewType("DeviceId", str)
"""A vendor's own id of one device, unique within its provider."""

ProviderJobId = NewType("ProviderJobId", str)
"""A vendor's own id of one job."""

IdempotencyToken = NewType("IdempotencyToken", str)
"""What we send with a paid call so that the job can be found again. 1-64 characters of ``[A-Za-z0-9-]``."""

Shots = NewType("Shots", int)
"""How often a circuit is run; at least 1."""

Seconds = NewType("Seconds", float)
"""A duration in seconds."""

Counts = dict[str, int]
"""Bit string to number of shots.

Keys consist of ``0`` and ``1`` only and all have the same length: bit 0 of a classical register is rightmost, the
register declared last is leftmost, and registers are joined without spaces (Qiskit's order).
"""


CURRENCY_PATTERN: Final = r"^([A-Z]{3}|[a-z][a-z_]{3,31})$"
_CURRENCY: Final = re.compile(CURRENCY_PATTERN)


@dataclass(frozen=True, slots=True)
class Money:
    """An amount with its currency; amounts of different currencies never compare or add.

    ``currency`` is an ISO 4217 code, or the unit of an account that is not kept in money, in small letters:
    ``quantum_seconds``, ``credits``. A unit has four letters at least, so that ``usd`` is a mistake and no unit.

    Raises:
        ValueError: the currency is neither, the amount is not finite, or ``+`` met two currencies.
    """

    amount: Decimal
    currency: str

    def __post_init__(self) -> None:
        if not _CURRENCY.fullmatch(self.currency):
            raise ValueError(
                f"currency must be an ISO 4217 code such as USD, or a unit such as credits, not {self.currency!r}"
            )
        if not self.amount.is_finite():
            raise ValueError("an amount of money must be finite")

    def __add__(self, other: Money) -> Money:
        if self.currency != other.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(self.amount + other.amount, self.currency)

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"


def utc_now() -> datetime:
    """Now, aware and in UTC: the only clock reading stored or sent."""
    return datetime.now(UTC)
