"""Sums of prices, as the daemon tells them, of which some may not be known and some be of another currency."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Sum:
    """``amounts`` by currency; ``unknown`` of ``count`` prices were not known."""

    amounts: Mapping[str, Decimal]
    unknown: int
    count: int

    @classmethod
    def of(cls, prices: Iterable[Mapping[str, str] | None]) -> Sum:
        """The sum of prices as JSON has them: amount as text, and currency."""
        amounts: dict[str, Decimal] = {}
        given = list(prices)
        for price in given:
            if price is not None:
                amounts[price["currency"]] = amounts.get(price["currency"], Decimal()) + Decimal(price["amount"])
        return cls(amounts, sum(price is None for price in given), len(given))

    def expected(self) -> str:
        """For people, beforehand."""
        return f"{self._text()} expected" if self.amounts else self._text()

    def paid(self) -> str:
        """For people, afterwards."""
        return self._text()

    def document(self) -> dict[str, Any]:
        """For programs: a number of prices that are not known makes the sum a lower bound."""
        return {"amounts": {name: str(amount) for name, amount in self.amounts.items()}, "unknown": self.unknown}

    def _text(self) -> str:
        if not self.count:
            return "nothing"
        if not self.amounts:
            return "not known"
        known = " + ".join(f"{amount} {currency}" for currency, amount in sorted(self.amounts.items()))
        return f"at least {known} ({self.unknown} of {self.count} not known)" if self.unknown else known
