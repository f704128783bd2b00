"""What adapters that keep their jobs share."""

from __future__ import annotations

import pytest

from qcompute.errors import Refused
from qcompute.units import IdempotencyToken
from qcompute.vendor.spooled import is_job_id, job_id_of, timestamps


def test_a_job_is_named_by_its_token_or_anew() -> None:
    assert job_id_of(IdempotencyToken("a-1")) == "a-1"
    fresh = {job_id_of(None), job_id_of(None)}
    assert len(fresh) == 2
    assert all(is_job_id(name) for name in fresh)
    for wrong in ("../x", "a b", "x" * 65, "ä", "a\n"):
        assert not is_job_id(wrong)
        with pytest.raises(Refused, match="token"):
            job_id_of(IdempotencyToken(wrong))


def test_times_are_told_as_far_as_they_are_known() -> None:
    assert timestamps({}, {}) == {}
    assert timestamps({"created": 0.5}, {"ended": 2.0}) == {
        "createdAt": "1970-01-01T00:00:00.500000+00:00",
        "endedAt": "1970-01-01T00:00:02+00:00",
    }
    whole = timestamps({"created": 1.0}, {"started": 2.0, "ended": 4.25})
    assert (whole["startedAt"], whole["executionDuration"]) == ("1970-01-01T00:00:02+00:00", 2.25)
