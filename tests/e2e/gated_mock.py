"""The mock vendor with two gates: ``PROVIDER=tests.e2e.gated_mock:GatedMock``.

As long as the file ``open`` is not beside the vendor's table, a job of `SUBMITTING_SHOTS` does not come back from its
paid call, and one of `WAITING_SHOTS` runs on. A vendor who is merely slow is not enough: on a busy machine all jobs had
been submitted before the test could look for one that was being submitted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from typing_extensions import override

from qcompute.miner.providers.base import BaseExecutionStatus, JobHandle, ProviderStatus
from qcompute.miner.providers.mock import MockAdapter, MockConfig
from qcompute.units import IdempotencyToken

SUBMITTING_SHOTS: Final = 61
WAITING_SHOTS: Final = 62
_LOOK_SECONDS: Final = 0.02


def gate_of(vendor_file: Path) -> Path:
    """The file that opens the gates of the vendor with this table."""
    return vendor_file.with_name("open")


class GatedMock(MockAdapter):
    """See the module's text."""

    def __init__(self, config: BaseModel | None = None) -> None:
        super().__init__(config)
        if not isinstance(config, MockConfig) or config.state_path is None:
            raise ValueError("the gates lie beside the vendor's table: set state_path")
        self._gate = gate_of(config.state_path)

    @override
    def submit(
        self,
        circuit_data: str,
        device_id: str | None = None,
        shots: int | None = None,
        *,
        token: IdempotencyToken | None = None,
    ) -> JobHandle:
        while shots == SUBMITTING_SHOTS and not self._gate.exists():
            time.sleep(_LOOK_SECONDS)
        return super().submit(circuit_data, device_id, shots, token=token)

    @override
    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        told = super().poll_many(handles)
        if self._gate.exists():
            return told
        rows = self._rows("SELECT job_id FROM jobs WHERE shots = ?", (WAITING_SHOTS,))
        kept = {job_id for (job_id,) in rows}
        running = BaseExecutionStatus(status=ProviderStatus.RUNNING)
        return [running if handle.provider_job_id in kept else one for handle, one in zip(handles, told, strict=True)]
