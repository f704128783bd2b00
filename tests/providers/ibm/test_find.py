"""IBM: a job is found again by its tag."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from qcompute.local.service import FaultKind
from qcompute.miner.providers.base import (
    Absent,
    Found,
)
from qcompute.units import IdempotencyToken
from tests.providers.ibm.scene import LONG_AGO, Account


def test_all_jobs_of_a_token_are_found_oldest_first_over_pages(account: Account) -> None:
    account.double.page_limit = 2
    token = f"many-{time.time_ns()}"
    made = [account.submit(token=token)[0] for _ in range(5)]
    account.double.asked.clear()
    answer = account.adapter.find(IdempotencyToken(token), datetime.now(UTC) - LONG_AGO)
    assert isinstance(answer, Found)
    assert [one.provider_job_id for one in answer.handles] == [one.provider_job_id for one in made]
    assert [one.device_id for one in answer.handles] == ["ibm_manila"] * 5
    assert account.double.asked_for("GET /api/v1/jobs") == 3


def test_a_server_that_ignores_the_tag_gives_us_nobody_elses_job(account: Account) -> None:
    stranger = {"id": "d1", "backend": "ibm_manila", "status": "Running", "tags": ["qc:other"], "created": "2026"}
    untagged = {"id": "d2", "status": "Running"}
    body = json.dumps({"jobs": [stranger, untagged], "count": 2}).encode()
    account.double.fault("GET /api/v1/jobs$", FaultKind.STATUS, status=200, body=body)
    assert account.adapter.find(IdempotencyToken("mine"), datetime.now(UTC)) == Absent()
