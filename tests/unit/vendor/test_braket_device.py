"""When a Braket device runs tasks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from qcompute.vendor.braket.device import Window, next_open

WEDNESDAY = datetime(2026, 1, 7, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("windows", "opens"),
    [
        ([("Everyday", "00:00", "23:59:59")], WEDNESDAY),
        ([("Everyday", "12:00", "13:00")], WEDNESDAY),
        ([("Everyday", "11:00", "12:00")], WEDNESDAY),
        ([("Everyday", "00:00", "00:00")], WEDNESDAY),
        ([("Everyday", "13:00", "14:00")], datetime(2026, 1, 7, 13, tzinfo=UTC)),
        ([("Everyday", "10:00", "11:00")], datetime(2026, 1, 8, 10, tzinfo=UTC)),
        ([("Weekdays", "10:00", "13:00")], WEDNESDAY),
        ([("Weekend", "10:00", "13:00")], datetime(2026, 1, 10, 10, tzinfo=UTC)),
        ([("Tuesday", "14:00", "13:00")], WEDNESDAY),
        ([("Wednesday", "14:00", "13:00")], datetime(2026, 1, 7, 14, tzinfo=UTC)),
        ([("Wednesday", "10:00", "11:00")], datetime(2026, 1, 14, 10, tzinfo=UTC)),
        ([("Friday", "09:30", "10:00"), ("Thursday", "16:00", "17:00")], datetime(2026, 1, 8, 16, tzinfo=UTC)),
        ([("Full moon", "00:00", "23:59")], None),
        ([], None),
    ],
)
def test_execution_windows(windows: list[tuple[str, str, str]], opens: datetime | None) -> None:
    """UTC; a window that ends before it begins ends on the next day."""
    names = ("executionDay", "windowStartHour", "windowEndHour")
    given = [Window.model_validate(dict(zip(names, window, strict=True))) for window in windows]
    assert next_open(given, WEDNESDAY + timedelta(milliseconds=500)) == opens
