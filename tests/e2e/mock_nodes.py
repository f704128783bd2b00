"""Accounts of mock vendors for a fleet: ``provider = "tests.e2e.mock_nodes:MockNodes"``.

What an account does is switched while the daemon runs, by files in its folder: ``refuse`` and ``off``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from typing_extensions import override

from qcompute.cluster import NodeProvider, NodeType, QPUNodeSpec
from qcompute.cluster.account_setup import AccountSetup
from qcompute.cluster.spec import DEVICE, DEVICE_TYPE
from qcompute.errors import Refused
from qcompute.miner.providers.base import AvailabilityStatus, JobHandle, ProviderAdapter
from qcompute.miner.providers.mock import MockAdapter, MockConfig
from qcompute.units import IdempotencyToken

REFUSAL = "no more than ten circuits a day"


class MockArguments(BaseModel):
    """``kind`` is ``qpu`` or ``sim``; ``folder`` is for the vendor's table and the switches."""

    kind: str
    folder: Path


class SwitchedMock(MockAdapter):
    """A mock vendor that refuses, or is off, while its switch is there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(MockConfig(state_path=folder / "vendor.sqlite3", run_seconds=0.1))
        self._folder = folder

    @override
    def submit(
        self,
        circuit_data: str,
        device_id: str | None = None,
        shots: int | None = None,
        *,
        token: IdempotencyToken | None = None,
    ) -> JobHandle:
        if (self._folder / "refuse").exists():
            raise Refused(REFUSAL)
        return super().submit(circuit_data, device_id, shots, token=token)

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        told = super().get_availability(device_id)
        if told is None or not (self._folder / "off").exists():
            return told
        return told.model_copy(update={"is_available": False, "availability": "OFFLINE", "status_msg": "switched off"})


class MockNodes(NodeProvider):
    """One device of a mock vendor of its own."""

    Arguments = MockArguments

    @override
    def build_nodes(self, **kwargs: Any) -> list[QPUNodeSpec]:
        arguments = MockArguments.model_validate(kwargs)
        device, kind, node = {
            "qpu": ("mock_qpu_1", "QPU", NodeType.QPU_IBM),
            "sim": ("mock_sim_1", "SIMULATOR", NodeType.CPU_AER),
        }[arguments.kind]
        return [QPUNodeSpec(arguments.kind, node, 16, metadata={DEVICE: device, DEVICE_TYPE: kind})]

    @override
    def open_adapter(self, nodes: Sequence[QPUNodeSpec], setup: AccountSetup) -> ProviderAdapter:
        return SwitchedMock(MockArguments.model_validate(setup.arguments).folder)
