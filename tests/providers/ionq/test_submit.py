"""IonQ: a job is paid once."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.errors import (
    AuthFailed,
    Refused,
    SubmitUnknown,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers.base import (
    ProviderStatus,
)
from qcompute.miner.providers.ionq import IonqAdapter
from qcompute.testing.provider_contract import ASYMMETRIC
from qcompute.units import IdempotencyToken
from tests.doubles.ionq import IonqDouble
from tests.providers.ionq.scene import (
    PROGRAM,
    QPU,
    ended,
    look,
    submitted,
)


def test_plain_openqasm_3_is_enough(adapter: IonqAdapter) -> None:
    """As an adapter written for the reference miner is called: no token, no options, no device."""
    program = PROGRAM.replace("bit[1] a;\nbit[2] b;", "bit[3] c;").replace("a[0]", "c[0]")
    program = program.replace("b[1]", "c[2]").replace("b[0]", "c[1]")
    handle = adapter.submit(program)
    assert handle.device_id == QPU
    assert ended(adapter, handle).status == ProviderStatus.COMPLETED
    receipt = adapter.get_job_receipt(handle)
    assert (receipt.results, receipt.shots) == ({"measurementCounts": {"010": 1024}}, 1024)


def test_openqasm_2_is_refused_before_anything_is_sent(double: IonqDouble, adapter: IonqAdapter) -> None:
    with pytest.raises(Refused):
        adapter.submit(ASYMMETRIC.source, QPU, 100)
    assert double.asked_for("POST") == 0


def test_without_a_backend_nothing_is_sent(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.backends.clear()
    with pytest.raises(Refused):
        adapter.submit(PROGRAM)
    assert adapter.get_capability() is None


def test_what_ionq_did_not_like_is_named(adapter: IonqAdapter) -> None:
    with pytest.raises(Refused, match=r"\"backend\" was invalid\. \(backend\)") as raised:
        adapter.submit(PROGRAM, "qpu.gone", 100)
    assert raised.value.vendor_code == "Bad Request"


def test_an_answer_without_an_id_may_be_a_job(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.fault("POST", FaultKind.STATUS, status=201, body=b'{"status": "submitted"}')
    with pytest.raises(SubmitUnknown):
        submitted(adapter)


def test_a_key_that_is_not_valid_any_more_stops_everything_but_the_list_of_backends(
    double: IonqDouble, adapter: IonqAdapter
) -> None:
    handle = submitted(adapter)
    double.key = "another"
    calls: list[Callable[[], object]] = [
        lambda: submitted(adapter),
        lambda: adapter.poll(handle),
        lambda: adapter.poll_many([handle, handle]),
        lambda: adapter.cancel(handle),
        lambda: adapter.get_job_receipt(handle),
        lambda: look(adapter, "token-1"),
    ]
    for call in calls:
        with pytest.raises(AuthFailed):
            call()
    assert adapter.list_devices()
    assert double.created == 1


def test_a_long_description_of_the_result_stays_at_home(double: IonqDouble, adapter: IonqAdapter) -> None:
    """IonQ may refuse metadata that is too long; the daemon has its own copy."""
    wide = MeasurementMap(
        registers=tuple(Register(name=f"register_{n}", size=2) for n in range(20)),
        measured=tuple((n, n) for n in range(40)),
    )
    content = {"program": PROGRAM, "measurement": wide.model_dump(mode="json"), "mid_circuit": False, "body": {}}
    payload = json.dumps({"ionq": content})
    handle = adapter.submit(payload.replace('{"ionq": ', '{"ionq":'), QPU, 100, token=IdempotencyToken("wide"))
    assert handle.measurement == wide
    noted = double.jobs[handle.provider_job_id].request["metadata"]
    assert noted == {"qcompute_token": "wide", "qcompute_shots": "100"}
