"""IBM: what is sent."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from qcompute.circuits.program import JobOptions
from qcompute.testing.provider_contract import ASYMMETRIC
from qcompute.units import IdempotencyToken
from qcompute.vendor.ibm import api
from tests.doubles.ibm import API_KEY, CRN, WORKER, IbmDouble
from tests.doubles.worker import Worker, shared
from tests.providers.ibm.scene import HEAD, ONE, ZEROS, Account, counts


def test_what_is_sent_is_what_ibms_own_client_sends(account: Account) -> None:
    ready = [account.prepared(ASYMMETRIC.source), account.prepared(ONE)]
    handles = account.adapter.submit_many(ready, "ibm_manila", 50, token=IdempotencyToken("like-ibm"))
    ours = account.double.bodies[-1]
    client = Worker(WORKER)
    try:
        theirs = client.ask(
            {
                "task": "client",
                "url": account.double.url,
                "token": API_KEY,
                "instance": CRN,
                "backend": "ibm_manila",
                "tags": ours["tags"],
                "max_execution_seconds": ours["cost"],
                "circuits": [json.loads(one.payload)["ibm"]["qpy"] for one in ready],
                "shots": 50,
            }
        )
    finally:
        client.close()
    assert account.double.bodies[-1] is not ours
    # IBM's client also says how talkative the server's log shall be; WARNING is what the server does anyway.
    assert account.double.bodies[-1] == ours | {"log_level": "WARNING"}
    assert theirs["counts"] == [counts(account.ended(handle)) for handle in handles]


def test_the_version_is_the_one_ibms_client_speaks(account: Account) -> None:
    from qiskit_ibm_runtime.api.rest.base import RestAdapterBase  # noqa: PLC0415 - only its words are looked at

    assert RestAdapterBase._HEADER_API_VERSION == {"IBM-API-Version": api.API_VERSION}
    account.adapter.find(IdempotencyToken("nobody"), datetime.now(UTC))
    assert account.double.headers[-1]["IBM-API-Version"] == api.API_VERSION


def test_nothing_is_said_about_the_machine_it_runs_on(account: Account) -> None:
    account.ended(account.submit()[0])
    expected = {"Host", "Accept", "Accept-Encoding", "Connection", "User-Agent", "Service-CRN", "IBM-API-Version"}
    for headers in account.double.headers:
        assert set(headers) - expected <= {"Authorization", "Content-Type", "Content-Length"}
        assert headers["User-Agent"].startswith("qcompute/")
        assert API_KEY not in "".join(headers.values())


def test_the_environment_decides_nothing(
    monkeypatch: pytest.MonkeyPatch, double: IbmDouble, opened: Callable[..., Account]
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "IAM_URL", "QISKIT_IBM_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "another")
    assert opened().adapter.list_devices()
    assert double.asked_for("POST /identity/token") == 1


def test_a_job_is_tagged_capped_and_for_one_device(account: Account) -> None:
    account.submit(ONE, ZEROS, token="tagged")
    body = account.double.bodies[-1]
    assert body["tags"] == ["qc:tagged", "qcompute", "qcompute-pack-2"]
    assert (body["backend"], body["cost"], body["program_id"]) == ("ibm_manila", 300, "executor")
    assert body["params"]["quantum_program"]["shots"] == 100
    assert "private" not in body


def test_a_submit_is_one_request(account: Account) -> None:
    account.submit()
    account.double.asked.clear()
    ready = account.prepared(ONE)
    account.adapter.submit_many([ready], "ibm_manila", 10, token=IdempotencyToken("one"))
    assert [f"{one.method} {one.path}" for one in account.double.asked] == ["POST /api/v1/jobs"]


def test_rzz_angles_are_folded_into_what_the_device_takes(account: Account, opened: Callable[..., Account]) -> None:
    fractional = opened(use_fractional_gates=True)
    known = account.double.configurations["ibm_manila"]
    account.double.configurations["ibm_manila"] = known | {"basis_gates": ["rz", "sx", "x", "rx", "rzz", "cx"]}
    try:
        device = fractional.device()
        source = HEAD + "qreg q[2];\ncreg c[2];\nrx(0.5) q[0];\nrzz(4) q[0],q[1];\nmeasure q -> c;\n"
        plain, wanted = account.adapter.target(device, JobOptions()), fractional.adapter.target(device, JobOptions())
        assert plain is not None
        assert wanted is not None
        assert not {"rx", "rzz"} & set(plain.basis_gates or ())
        assert {"rx", "rzz"} <= set(wanted.basis_gates or ())
        [handle] = fractional.submit(source)
        params = account.double.bodies[-1]["params"]
        [gates] = shared(WORKER).ask({"task": "gates", "params": params})
        assert "rx" in [name for name, _ in gates]
        [angle] = [angles[0] for name, angles in gates if name == "rzz"]
        assert 0 <= angle <= math.pi / 2
        fractional.ended(handle)
    finally:
        account.double.configurations["ibm_manila"] = known
