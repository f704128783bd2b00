"""IonQ: sessions, which cap what is spent."""

from __future__ import annotations

from decimal import Decimal

import pytest

from qcompute.errors import (
    AuthFailed,
    QuotaSpent,
    Refused,
    Unavailable,
)
from qcompute.local.service import FaultKind
from tests.doubles.ionq import IonqDouble
from tests.providers.ionq.scene import (
    QPU,
    Adapters,
    submitted,
)


def test_jobs_of_a_quantum_computer_share_one_session_with_the_limit(double: IonqDouble, adapters: Adapters) -> None:
    adapter = adapters(session_cost_limit_usd=Decimal("120.50"))
    for number in range(3):
        submitted(adapter, token=f"token-{number}")
    submitted(adapter, "simulator")
    (session,) = double.sessions.values()
    assert (session["backend"], session["settings"]) == (QPU, {"cost_limit": {"value": 120.5, "unit": "usd"}})
    sessions = [job.request.get("session_id") for job in double.jobs.values()]
    assert sessions == [session["id"]] * 3 + [None]


@pytest.mark.parametrize("kind", [FaultKind.DROP_AFTER, FaultKind.STATUS_AFTER])
def test_a_session_whose_creation_got_no_answer_is_left_alone(
    double: IonqDouble, adapters: Adapters, kind: FaultKind
) -> None:
    adapter = adapters(session_cost_limit_usd=Decimal(10))
    double.fault("POST /v0.4/sessions", kind)
    with pytest.raises(Unavailable):
        submitted(adapter)
    assert double.created == 0
    handle = submitted(adapter)
    assert len(double.sessions) == 2
    assert double.jobs[handle.provider_job_id].request["session_id"] == list(double.sessions)[1]


def test_a_session_without_an_id_is_no_session(double: IonqDouble, adapters: Adapters) -> None:
    adapter = adapters(session_cost_limit_usd=Decimal(10))
    double.fault("POST /v0.4/sessions", FaultKind.STATUS, status=201, body=b"{}")
    with pytest.raises(Unavailable):
        submitted(adapter)
    assert double.created == 0


def test_an_account_without_sessions_says_so_and_runs_nothing(double: IonqDouble, adapters: Adapters) -> None:
    """The limit is a promise to the operator: no job goes around it."""
    adapter = adapters(session_cost_limit_usd=Decimal(10))
    double.fault("POST /v0.4/sessions", FaultKind.STATUS, status=403)
    with pytest.raises(AuthFailed):
        submitted(adapter)
    assert double.created == 0


def test_a_session_at_its_limit_stops_the_account(double: IonqDouble, adapters: Adapters) -> None:
    adapter = adapters(session_cost_limit_usd=Decimal(10))
    submitted(adapter)
    next(iter(double.sessions.values()))["active"] = False
    with pytest.raises(QuotaSpent, match="Session has ended"):
        submitted(adapter)
    double.fault("GET /v0.4/sessions", FaultKind.STATUS)
    with pytest.raises(Refused):
        submitted(adapter)


def test_a_refusal_in_a_session_that_goes_on_is_of_the_job(double: IonqDouble, adapters: Adapters) -> None:
    adapter = adapters(session_cost_limit_usd=Decimal(10))
    submitted(adapter)
    double.fault("POST /v0.4/jobs", FaultKind.STATUS, status=413)
    with pytest.raises(Refused):
        submitted(adapter)
