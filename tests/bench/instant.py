"""A device that has every answer at once: what remains is the road itself. ``PROVIDER=tests.bench.instant:Instant``."""

from __future__ import annotations

from typing import ClassVar

from typing_extensions import override

from qcompute.miner.providers.base import ImmediateAdapter
from qcompute.units import Counts

PROVIDER = "tests.bench.instant:Instant"


class Instant(ImmediateAdapter):
    """Half of the shots are 00, half 11: right for a Bell pair, which is all it is given."""

    device_id: ClassVar[str] = "instant"
    num_qubits: ClassVar[int | None] = 2

    @override
    def run(self, circuit_data: str, shots: int) -> Counts:
        del circuit_data
        return {"00": shots // 2, "11": shots - shots // 2}
