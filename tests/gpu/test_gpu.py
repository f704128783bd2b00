"""Aer on a GPU.

Where there is none, each test checks that this is said and that nothing is offered, and the run's summary lists it as
not run on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcompute.errors import ConfigError
from qcompute.local.demo_jobs import ASYMMETRIC
from qcompute.miner.providers.base import ProviderStatus
from qcompute.miner.providers.registry import open_adapter
from qcompute.vendor.aer_gpu import CUSTATEVEC, probe_gpu
from tests.gpu.conftest import NOT_RUN

METHODS = ["statevector", CUSTATEVEC, "density_matrix", "matrix_product_state", "tensor_network"]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_computes_on_the_gpu_or_is_refused_with_the_reason(
    method: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    config: dict[str, Any] = {"spool": tmp_path, "device": "GPU"}
    config |= {"custatevec": True} if method == CUSTATEVEC else {"methods": [method]}
    reason = probe_gpu(method)
    if reason is not None:
        record_property(NOT_RUN, f"{method}: {reason}")
        assert reason.startswith(("Aer", "the GPU", "qiskit-aer"))
        with pytest.raises(ConfigError, match=r"providers\.aer\.device = GPU: ") as caught:
            open_adapter("aer", config)
        assert reason in caught.value.message
        return
    adapter = open_adapter("aer", config)
    (device,) = adapter.list_devices()
    handle = adapter.submit(ASYMMETRIC, device.device_id, 1000)
    deadline = time.monotonic() + 100
    while not ProviderStatus.of(adapter.poll(handle).status).is_terminal:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    receipt = adapter.get_job_receipt(handle)
    adapter.close()
    assert (receipt.metadata or {})["device"] == "GPU", receipt
    assert (receipt.results or {})["measurementCounts"] == {"010": 1000}


def test_what_is_no_method_of_aers_is_said() -> None:
    assert probe_gpu("warp") == "Aer has no method 'warp'"
