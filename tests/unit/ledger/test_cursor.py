from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompute.ledger.cursor import START, Place, read_cursor, write_cursor
from qcompute.ledger.times import from_micros, micros

OURS = "0123456789ab"
LATEST_US = micros(datetime(2030, 1, 1, tzinfo=UTC))

times = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2029, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants them so
seqs = st.integers(1, 10**15)


@given(seq=seqs, closed_at=times)
def test_our_own_cursor_is_read_as_the_place_it_was_written_for(seq: int, closed_at: datetime) -> None:
    assert read_cursor(write_cursor(seq, closed_at, OURS), OURS, LATEST_US) == Place(seq, micros(closed_at))


@given(seq=seqs, closed_at=times)
def test_a_cursor_survives_a_column_of_numeric_affinity(seq: int, closed_at: datetime) -> None:
    cursor = write_cursor(seq, closed_at, OURS)
    with pytest.raises(ValueError, match="could not convert"):
        float(cursor)
    assert len(cursor) <= 64
    assert cursor.isascii()


@given(first=times, second=times)
def test_cursors_compare_as_their_times_do_also_with_those_of_the_reference(first: datetime, second: datetime) -> None:
    theirs = f"{first:%Y-%m-%d %H:%M:%S}"
    ours = write_cursor(7, second, OURS)
    if first.replace(microsecond=0) <= second:
        assert theirs < ours
    else:
        assert theirs > ours


@given(text=st.text() | st.from_regex(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6}\|[0-9a-f]{12}\|\d+)?", fullmatch=True))
def test_any_text_has_a_place(text: str) -> None:
    assert isinstance(read_cursor(text, OURS, LATEST_US), Place)


@given(closed_at=times, seq=seqs)
def test_a_foreign_cursor_lies_before_every_job_of_its_second(closed_at: datetime, seq: int) -> None:
    for text in (write_cursor(1, closed_at, "ba9876543210"), f"{closed_at:%Y-%m-%d %H:%M:%S}"):
        place = read_cursor(text, OURS, LATEST_US)
        second = closed_at.replace(microsecond=0)
        assert place.is_before(Place(seq, micros(second)))
        assert not place.is_before(Place(seq, micros(second - timedelta(microseconds=1))))


def test_a_foreign_cursor_from_the_future_starts_from_the_beginning() -> None:
    latest = datetime(2026, 11, 21, 2, 46, 51, 5, tzinfo=UTC)
    assert read_cursor("2026-11-21 02:46:51", OURS, micros(latest)) != START
    assert read_cursor("2026-11-21 02:46:52", OURS, micros(latest)) == START


@pytest.mark.parametrize(
    ("place", "other", "expected"),
    [
        (Place(5, 50), Place(5, 50), False),
        (Place(5, 50), Place(6, 60), True),
        (Place(5, 50), Place(4, 40), False),
        (Place(5, 50), Place(4, 60), True),
        (Place(5, 50), Place(6, 40), True),
    ],
)
def test_a_job_lies_behind_when_its_number_or_its_time_is_greater(
    place: Place, other: Place, *, expected: bool
) -> None:
    assert place.is_before(other) is expected


@given(steps=st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=50))
def test_places_grow_whatever_the_clock_does(steps: list[int]) -> None:
    place, now = START, datetime(2026, 11, 21, tzinfo=UTC)
    for step in steps:
        now += timedelta(microseconds=step)
        following = place.next(now)
        assert following.seq == place.seq + 1
        assert following.micros > place.micros
        assert following.micros >= micros(now)
        place = following


@given(time=times)
def test_times_are_exact_to_the_microsecond(time: datetime) -> None:
    assert from_micros(micros(time)) == time
