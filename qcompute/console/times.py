"""Times as operators write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from qcompute.errors import ConfigError
from qcompute.units import utc_now

_AGO: Final = re.compile(r"(\d{1,6})(s|m|h|d)")
_UNIT: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> datetime:
    """``15m`` and the like ago, or a time of ISO 8601, in UTC unless it says otherwise.

    Raises:
        ConfigError: it is neither.
    """
    if (ago := _AGO.fullmatch(text)) is not None:
        return utc_now() - timedelta(**{_UNIT[ago[2]]: int(ago[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--since {text}: write 90s, 15m, 2h or 3d for ago, or a time such as 2026-11-21T14:00"
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
