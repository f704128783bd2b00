"""The double of IonQ, and what we send it, against IonQ's own description of its API."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
import pytest

from qcompute.miner.providers.ionq import IonqAdapter
from qcompute.units import IdempotencyToken
from tests.doubles.ionq import MEASURED, SIMULATED, IonqDouble
from tests.providers.ionq.scene import (
    KEY,
    QPU,
    Adapters,
    conforms,
    description,
    device_of,
    ended,
    get,
    named,
    submitted,
    translated,
)


def test_the_doubles_answers_are_as_ionq_describes_them(double: IonqDouble, adapters: Adapters) -> None:
    double.formats = (*MEASURED, "shots.json.v1", "histogram.json.v1", *SIMULATED)
    adapter = adapters(session_cost_limit_usd=Decimal(50))
    handle = submitted(adapter)
    conforms(get(double, f"/jobs/{handle.provider_job_id}"), named("SingleCircuitJob"))
    ended(adapter, handle)
    job = get(double, f"/jobs/{handle.provider_job_id}")
    conforms(job, named("SingleCircuitJob"))
    conforms(get(double, "/jobs"), named("GetJobsResponse"))
    conforms(get(double, f"/jobs/{handle.provider_job_id}/cost"), named("GetJobCostResponse"))
    conforms(get(double, "/jobs/estimate", backend=QPU), named("GetJobEstimateResponse"))
    conforms(get(double, f"/sessions/{job['session_id']}"), named("Session"))
    for form, artifact in job["results"].items():
        schema = "".join(part.capitalize() for part in form.split("."))
        conforms(get(double, f"/jobs/{handle.provider_job_id}/artifacts/{artifact['id']}"), named(schema))
    conforms(get(double, "/jobs/none"), named("Error"))
    conforms(get(double, "/jobs/estimate", backend="none"), named("BadRequestError"))
    responses = description()["components"]["responses"]
    conforms(get(double, "/backends"), responses["ListBackends"]["content"]["application/json"]["schema"])


def test_the_doubles_calibration_is_as_described_but_for_fractions_of_seconds(double: IonqDouble) -> None:
    """The description says whole seconds for gates of microseconds."""
    schema = description()["components"]["responses"]["ListCharacterizations"]["content"]["application/json"]["schema"]
    answer = get(double, f"/backends/{QPU}/characterizations")
    timing = answer["characterizations"][0]["timing"]
    timing.update({name: round(seconds) for name, seconds in timing.items()})
    conforms(answer, schema)


def test_a_cancelled_and_a_failed_job_are_as_described(double: IonqDouble, adapter: IonqAdapter) -> None:
    with double.hold():
        handle = submitted(adapter)
        conforms(
            httpx.put(
                f"{double.base}/jobs/{handle.provider_job_id}/status/cancel", headers={"Authorization": f"apiKey {KEY}"}
            ).json(),
            named("JobCanceledResponse"),
        )
    double.fails_with = "the trap is empty"
    failed = submitted(adapter)
    ended(adapter, failed)
    conforms(get(double, f"/jobs/{failed.provider_job_id}"), named("SingleCircuitJob"))


@pytest.mark.parametrize(
    ("device_id", "options"),
    [
        (QPU, {}),
        ("simulator", {}),
        ("simulator", {"noise": {"model": "aria-1", "seed": 3}}),
    ],
)
def test_what_we_send_is_as_ionq_describes_it(
    double: IonqDouble, adapters: Adapters, device_id: str, options: dict[str, Any]
) -> None:
    adapter = adapters(session_cost_limit_usd=Decimal(50))
    prepared = translated(adapter, device_of(adapter, device_id), **options)
    handle = adapter.submit(prepared.payload, device_id, 1000, token=IdempotencyToken("t" * 64))
    body = double.jobs[handle.provider_job_id].request
    conforms(body, named("CircuitJobCreationPayload"))
    assert body["type"] == "ionq.qasm3.v1"
    assert body["name"] == body["metadata"]["qcompute_token"] == "t" * 64
    assert body.get("noise") == options.get("noise")
    assert ("session_id" in body) == (device_id == QPU)
    assert handle.measurement == prepared.measurement
