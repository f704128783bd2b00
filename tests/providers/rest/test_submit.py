"""Plain REST: what is sent, and a result that comes at once."""

from __future__ import annotations

from typing import Any

import pytest

from qcompute.circuits.program import JobOptions
from qcompute.errors import (
    Refused,
    SubmitUnknown,
)
from qcompute.miner.providers.base import (
    ProviderStatus,
)
from tests.doubles.rest import TOKEN
from tests.providers.rest.scene import COUNTS, Make, Told, X, counted, metadata, submitted


def test_a_circuit_is_posted_as_the_specification_says(told: Told, make: Make) -> None:
    submitted(make(), told, {"counts": COUNTS})
    ((line, headers, body),) = told.requests
    assert line == "POST /run-circuit"
    assert body == {"qasm": X, "shots": 100}
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Idempotency-Key"] == "t-1"


def test_names_and_further_fields_are_settings(told: Told, make: Make) -> None:
    adapter = make(
        base_urls=f"{told.url}/v2/",
        token=None,
        run_path="/execute",
        circuit_field="circuit",
        shots_field="n",
        seed_field="seed",
        body={"backend": "cpu", "n": 7},
    )
    submitted(adapter, told, {"counts": COUNTS}, options=JobOptions(seed=3))
    submitted(adapter, told, {"counts": COUNTS}, options=JobOptions())
    (line, headers, body), (_, _, second) = told.requests
    assert line == "POST /v2/execute"
    assert body == {"backend": "cpu", "circuit": X, "n": 100, "seed": 3}
    assert "seed" not in second
    assert "Authorization" not in headers


def test_without_shots_or_token(told: Told, make: Make) -> None:
    told.answers["POST"] = (200, {"counts": COUNTS})
    handle = make().submit(X)
    ((_, headers, body),) = told.requests
    assert body["shots"] == 1024
    assert "Idempotency-Key" not in headers
    assert handle.provider_job_id.startswith("rest_1-")


def test_a_device_there_is_not(told: Told, make: Make) -> None:
    with pytest.raises(Refused, match="rest_2"):
        make().submit(X, "rest_2", 1)
    assert told.requests == []


def test_it_outlives_the_endpoint_and_the_daemon(told: Told, make: Make) -> None:
    handle = submitted(make(), told, {"counts": COUNTS, "cost": 0.5})
    told.call(told.stop())
    adapter = make()
    assert handle.provider_job_id == "t-1"
    assert adapter.poll(handle).status == ProviderStatus.COMPLETED
    assert counted(adapter.get_job_receipt(handle)) == COUNTS
    adapter.cancel(handle)


def test_a_job_id_for_later(told: Told, make: Make) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "j-1"}, status=202)
    told.answers["GET"] = (200, {"status": "running", "queue_position": 3, "eta_seconds": 9, "message": "soon"})
    status = adapter.poll(handle)
    assert (status.status, status.queue_position, status.eta_seconds) == (ProviderStatus.RUNNING, 3, 9)
    assert told.lines[-1] == "GET /jobs/j-1"
    assert handle.model_extra is not None
    assert handle.model_extra["answer"] is None


def test_a_failure_at_once_is_kept_with_its_text(told: Told, make: Make) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"status": "error", "error": f"no gate u2 {TOKEN}\x00"})
    status, receipt = adapter.poll(handle), adapter.get_job_receipt(handle)
    assert (status.status, status.message) == (ProviderStatus.FAILED, "no gate u2 ***")
    assert (receipt.status, receipt.results, receipt.cost) == (ProviderStatus.FAILED, None, None)
    assert metadata(receipt)["message"] == "no gate u2 ***"


def test_a_result_too_large_is_fetched_later(told: Told, make: Make) -> None:
    adapter = make(max_result_bytes=1024, keeps_jobs=True)
    large = {"id": 7, "counts": {f"{n:010b}": 1 for n in range(100)}}
    handle = submitted(adapter, told, large)
    told.answers["GET"] = (200, large)
    assert handle.provider_job_id == "7"
    assert len(handle.model_dump_json()) < 1024
    assert adapter.poll(handle).status == ProviderStatus.COMPLETED
    assert told.lines[-1] == "GET /jobs/7"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "no JSON object"),
        ([1], "no JSON object"),
        ({}, "neither"),
        ({"status": "completed"}, "neither"),
        ({"status": "running"}, "neither"),
        ({"error": "out of memory"}, "out of memory"),
        ({"job_id": "..", "status": "queued"}, "neither"),
        ({"job_id": "a b"}, "neither"),
        ({"job_id": "x" * 201}, "neither"),
        ({"counts": {f"{n:010b}": 1 for n in range(100)}}, "kept"),
        (b"", "no JSON object"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_paid_answer_nothing_can_be_made_of(told: Told, make: Make, answer: Any, said: str) -> None:
    with pytest.raises(SubmitUnknown, match=said):
        submitted(make(max_result_bytes=1024), told, answer)


def test_409_is_no_refusal(told: Told, make: Make) -> None:
    """A job with this key is there or on its way: the other answer to it was lost."""
    with pytest.raises(SubmitUnknown, match="409"):
        submitted(make(), told, {"error": "duplicate"}, status=409)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"detail": [{"loc": ["body", "qasm"], "msg": "field required"}]}, "field required"),
        ({"detail": "no"}, "no"),
        ({"error": {"code": "E7", "message": "bad"}, "detail": "no"}, "bad"),
        ({"detail": []}, None),
        ({"detail": [3]}, None),
    ],
)
def test_a_refusal_in_the_endpoint_s_words(told: Told, make: Make, answer: Any, message: str | None) -> None:
    with pytest.raises(Refused) as caught:
        submitted(make(), told, answer, status=422)
    assert caught.value.message == "rest_1 answered 422" + (f": {message}" if message else "")
