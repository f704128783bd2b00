"""Azure Quantum: results, receipts and what they cost."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest

from qcompute.errors import (
    AuthFailed,
    BadReply,
    CannotRun,
    Refused,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers import azure
from qcompute.miner.providers.base import (
    JobHandle,
    ProviderAdapter,
    ProviderStatus,
)
from qcompute.testing.provider_contract import SHOTS, compiled
from tests.doubles.azure import ACCOUNT, WORKSPACE, AzureDouble
from tests.providers.azure.scene import EMULATOR, GET_JOB, QVM, SIMULATOR, counts, ended, submit


@pytest.mark.parametrize("name", [EMULATOR, SIMULATOR, QVM])
def test_a_circuit_s_result_is_the_same_whatever_it_is_written_in(adapter: ProviderAdapter, name: str) -> None:
    """Entangled, with a bit never written and one qubit read from the far end."""
    source = compiled(
        'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[4];\ncreg a[2];\ncreg b[3];\n'
        "x q[3];\nh q[0];\ncx q[0], q[1];\nrz(0.3) q[1];\ncu1(0.7) q[1], q[3];\nsdg q[2];\nswap q[2], q[3];\n"
        "measure q[0] -> b[2];\nmeasure q[1] -> a[0];\nmeasure q[2] -> b[0];\n",
        (("a", 2), ("b", 3)),
        ((0, 1), (2, 2), (4, 0)),
    ).model_copy(update={"num_qubits": 4})
    receipt = ended(adapter, submit(adapter, name=name, source=source))
    assert set(counts(receipt)) == {"00100", "10101"}
    assert sum(counts(receipt).values()) == SHOTS
    assert (receipt.metadata or {})["counts_source"] == ("sampled" if name == SIMULATOR else "measured")


def test_quantinuum_measures_amid_the_circuit_resets_and_branches(adapter: ProviderAdapter) -> None:
    source = compiled(
        'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg a[1];\ncreg b[1];\n'
        "x q[0];\nmeasure q[0] -> a[0];\nif (a == 1) x q[1];\nreset q[0];\nmeasure q[1] -> b[0];\n",
        (("a", 1), ("b", 1)),
        ((0, 0), (1, 1)),
    )
    assert counts(ended(adapter, submit(adapter, source=source))) == {"11": SHOTS}
    with pytest.raises(CannotRun):
        submit(adapter, name=SIMULATOR, source=source)
    with pytest.raises(CannotRun):
        submit(adapter, name=QVM, source=source)


@pytest.mark.parametrize("mark", ["2", "-"])
def test_shots_that_lost_a_qubit_are_discarded_and_counted(
    double: AzureDouble, adapter: ProviderAdapter, mark: str
) -> None:
    double.lost = (7, mark)
    receipt = ended(adapter, submit(adapter))
    assert counts(receipt) == {"010": SHOTS - 7}
    assert (receipt.metadata or {})["shots_discarded"] == 7
    assert receipt.shots == SHOTS


def test_a_receipt_says_when_and_for_how_much(adapter: ProviderAdapter) -> None:
    receipt = ended(adapter, submit(adapter))
    metadata, times = receipt.metadata or {}, receipt.timestamps or {}
    assert (receipt.cost, metadata["currency"], metadata["cost_kind"]) == (1.25, "USD", "vendor_estimate")
    assert metadata["cost_events"][0]["dimension_name"] == "1Q gate shots"
    assert times["createdAt"] < times["startedAt"] < times["endedAt"]
    assert times["executionDuration"] > 0
    assert metadata["output_format"] == "honeywell.quantum-results.v1"


@pytest.mark.parametrize("cost", [None, {"currencyCode": "", "estimatedTotal": 0}, {"currencyCode": "USD"}])
def test_a_cost_nobody_named_is_not_known(double: AzureDouble, adapter: ProviderAdapter, cost: Any) -> None:
    """And one that cannot be read does not stand in the way of the result."""
    double.cost = cost
    receipt = ended(adapter, submit(adapter))
    assert receipt.cost is None
    assert "cost_kind" not in (receipt.metadata or {})


def test_a_cancelled_job_says_when(double: AzureDouble, adapter: ProviderAdapter) -> None:
    with double.hold():
        handle = submit(adapter)
        adapter.cancel(handle)
        adapter.cancel(handle)
        receipt = ended(adapter, handle)
    assert [one.status for one in double.asked if one.path.endswith(":cancel")] == [204, 409]
    assert "endedAt" in (receipt.timestamps or {})
    assert "executionDuration" not in (receipt.timestamps or {})


def test_a_result_is_fetched_once(double: AzureDouble, adapter: ProviderAdapter) -> None:
    handle = submit(adapter)
    first = ended(adapter, handle)
    double.blobs.clear()
    assert adapter.get_job_receipt(handle) == first
    assert double.asked_for(f"GET /{ACCOUNT}") == 1


def test_only_so_many_receipts_are_kept(adapter: ProviderAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "KEPT_RECEIPTS", 2)
    handles = [submit(adapter, f"t{number}") for number in range(3)]
    receipts = [ended(adapter, handle) for handle in handles]
    assert isinstance(adapter, azure.AzureAdapter)
    assert list(adapter._receipts) == [handle.provider_job_id for handle in handles[1:]]
    assert [adapter.get_job_receipt(handle) for handle in handles] == receipts


def test_a_receipt_of_a_job_that_runs_is_not_kept(double: AzureDouble, adapter: ProviderAdapter) -> None:
    with double.hold():
        handle = submit(adapter)
        assert adapter.get_job_receipt(handle).status == ProviderStatus.QUEUED
    assert counts(ended(adapter, handle)) == {"010": SHOTS}


def test_there_is_no_receipt_of_a_job_azure_does_not_know(adapter: ProviderAdapter) -> None:
    with pytest.raises(Refused, match="no such job"):
        adapter.get_job_receipt(JobHandle(provider_job_id="never-existed", device_id=EMULATOR))


@pytest.mark.parametrize("seconds", [-10.0, 60.0])
def test_a_permission_that_ends_is_renewed_before_it_is_used(
    double: AzureDouble, adapter: ProviderAdapter, seconds: float
) -> None:
    handle = submit(adapter)
    while not ProviderStatus.of(adapter.poll(handle).status).is_terminal:
        time.sleep(0.02)
    double.sas_seconds = seconds
    asked = double.asked_for("POST " + WORKSPACE + "/storage/sasUri")
    with contextlib.suppress(AuthFailed):  # where the new one has ended as well
        adapter.get_job_receipt(handle)
    assert double.asked_for("POST " + WORKSPACE + "/storage/sasUri") == asked + 1
    assert double.asked_for(f"GET /{ACCOUNT}") == 1
    double.sas_seconds = 3600
    assert counts(adapter.get_job_receipt(handle)) == {"010": SHOTS}


def test_a_permission_that_is_refused_is_renewed(double: AzureDouble, adapter: ProviderAdapter) -> None:
    handle = submit(adapter)
    double.fault(f"GET /{ACCOUNT}/", FaultKind.STATUS, status=403)
    assert counts(ended(adapter, handle)) == {"010": SHOTS}
    assert double.asked_for(f"GET /{ACCOUNT}") == 2


def test_a_result_without_a_permission_is_read_with_a_new_one(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.output_uri_has_sas = False
    assert counts(ended(adapter, submit(adapter))) == {"010": SHOTS}


@pytest.mark.parametrize(("uri", "field"), [(None, "outputDataUri"), ("https://storage.invalid/", "outputDataUri")])
def test_a_result_that_is_nowhere_is_a_bad_reply(
    double: AzureDouble, adapter: ProviderAdapter, uri: str | None, field: str
) -> None:
    handle = submit(adapter)
    body = {"id": handle.provider_job_id, "status": "Succeeded", "outputDataUri": uri}
    double.fault(GET_JOB, FaultKind.STATUS, status=200, body=json.dumps(body).encode())
    with pytest.raises(BadReply) as raised:
        adapter.get_job_receipt(handle)
    assert raised.value.field == field


def test_a_result_that_is_not_there_yet_is_asked_for_again(double: AzureDouble, adapter: ProviderAdapter) -> None:
    handle = submit(adapter)
    double.fault(f"GET /{ACCOUNT}/", FaultKind.STATUS, status=404)
    with pytest.raises(Refused, match="404"):
        ended(adapter, handle)
    assert counts(adapter.get_job_receipt(handle)) == {"010": SHOTS}
