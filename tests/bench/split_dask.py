"""Circuits over 100 ms on a Dask cluster of this machine, beside the process pool of the adapter ``aer``."""

from __future__ import annotations

import random
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from qcompute.miner.providers.base import JobHandle, ProviderAdapter, ProviderStatus
from qcompute.miner.providers.registry import open_adapter
from tests.bench.report import Figure

PROCESSES: Final = 2
CIRCUITS: Final = 12
ROUNDS: Final = 3
_QUBITS, _DEPTH = 18, 20


async def dask() -> list[Figure]:
    """Circuits of 18 qubits and depth 20 a second, two processes each; at least 0.85 of the pool's is promised."""
    with tempfile.TemporaryDirectory() as folder:
        pool = open_adapter("aer", {"spool": Path(folder) / "aer", "processes": PROCESSES})
        cluster = open_adapter("dask", {"spool": Path(folder) / "dask", "workers": PROCESSES})
        try:
            for adapter in (pool, cluster):
                per_second(adapter, 2 * PROCESSES)  # starts its processes and their imports
            # In turns, so that what else the machine does falls on both.
            rates = [(per_second(cluster, CIRCUITS), per_second(pool, CIRCUITS)) for _ in range(ROUNDS)]
        finally:
            pool.close()
            cluster.close()
    ours, theirs = (max(side) for side in zip(*rates, strict=True))
    return [Figure("18 qubits, depth 20, on Dask", ours, "circuits/s", "process pool, this run", theirs)]


def per_second(adapter: ProviderAdapter, count: int) -> float:
    """Circuits a second, from the first submit to the last result."""
    device = next(d.device_id for d in adapter.list_devices() if d.device_id.endswith("statevector"))
    submit: Callable[..., JobHandle] = adapter.submit
    circuits = [circuit(seed) for seed in range(count)]
    began = time.monotonic()
    waiting = [submit(source, device, 1000, token=uuid.uuid4().hex) for source in circuits]
    while waiting:
        seen = adapter.poll_many(waiting)
        failed = [s for s in seen if s.status in (ProviderStatus.FAILED, ProviderStatus.CANCELLED)]
        if failed:
            raise RuntimeError(f"a circuit of the benchmark failed: {failed[0].message}")
        waiting = [h for h, s in zip(waiting, seen, strict=True) if s.status != ProviderStatus.COMPLETED]
        time.sleep(0.005)
    return count / (time.monotonic() - began)


def circuit(seed: int) -> str:
    """Layers of random rotations and of CX on random pairs."""
    chance = random.Random(seed)  # noqa: S311 - the same circuits at every run
    lines: list[str] = []
    for _ in range(_DEPTH):
        qubits = chance.sample(range(_QUBITS), _QUBITS)
        lines += [f"u3({chance.random():.6f},{chance.random():.6f},{chance.random():.6f}) q[{q}];" for q in qubits]
        lines += [f"cx q[{a}], q[{b}];" for a, b in zip(qubits[::2], qubits[1::2], strict=True)]
    head = f'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[{_QUBITS}];\ncreg c[{_QUBITS}];\n'
    return head + "\n".join(lines) + "\nmeasure q -> c;\n"
