"""What a job costs by a price list: the vendor's, or the operator's where a vendor has none."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

from qcompute.units import CURRENCY_PATTERN, Money


class Prices(BaseModel):
    """What one job costs, in ``currency``. Zero leaves a part out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_task: Decimal = Field(default=Decimal(0), ge=0)
    """For each job."""
    per_shot: Decimal = Field(default=Decimal(0), ge=0)
    """For each shot."""
    per_minute: Decimal = Field(default=Decimal(0), ge=0)
    """For each minute of quantum time."""
    currency: str = Field(default="USD", pattern=CURRENCY_PATTERN)
    """ISO 4217, or the unit of an account that is not kept in money: ``per_minute = 60`` in ``quantum_seconds`` counts
    quantum time."""

    def estimate(self, shots: int, quantum_seconds: float = 0.0) -> Money:
        """What so many shots and so much quantum time are expected to cost."""
        minutes = Decimal(str(quantum_seconds)) / 60
        return Money(self.per_task + self.per_shot * shots + self.per_minute * minutes, self.currency)

    def table(self) -> dict[str, float]:
        """As `ProviderAdapter.get_pricing` returns it."""
        return {
            "perTask": float(self.per_task),
            "perShot": float(self.per_shot),
            "perMinute": float(self.per_minute),
        }


def estimate_from_prices(prices: dict[str, float] | None, shots: int, currency: str = "USD") -> Money | None:
    """``perTask + perShot * shots``; None without either (``perMinute`` alone says nothing beforehand)."""
    if not prices or not ({"perTask", "perShot"} & prices.keys()):
        return None
    task, shot = (Decimal(str(prices.get(key, 0))) for key in ("perTask", "perShot"))
    return Money(task + shot * shots, currency)
