"""Jobs that wait for a process, in the order they came; those so short that several go to it at once leave together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from qcompute.circuits.program import CompiledCircuit
from qcompute.vendor.aer.methods import CLIFFORD, Method

TOGETHER: Final = 8
"""So many short jobs leave together, no more: the first is told of when the last has ended."""

_SHORT_AMPLITUDES: Final = 1 << 24
"""Amplitudes that gates go through in some 25 ms on one core; measured with Aer 0.18 on a state vector."""

_SHORT_TABLEAUS: Final = 1 << 20
"""The same of a tableau's bits, through which Aer goes for every shot."""


def is_short(circuit: CompiledCircuit, method: Method | None, shots: int) -> bool:
    """Whether a simulation takes less than some 50 ms, as far as can be told beforehand.

    ``method`` None is a noisy one. What has noise, branches or measurements on the way is simulated anew for each shot,
    and of a chain of tensors only an upper bound is known: none of these counts as short.
    """
    if method is None or circuit.has_control_flow or circuit.has_mid_circuit_measurement:
        return False
    n = circuit.num_qubits
    match method:
        case Method.MATRIX_PRODUCT_STATE | Method.TENSOR_NETWORK:
            return False
        case Method.DENSITY_MATRIX:
            return circuit.num_ops << 2 * n <= _SHORT_AMPLITUDES
        case Method.AUTOMATIC | Method.STATEVECTOR | Method.STABILIZER:
            if method is not Method.STATEVECTOR and circuit.gate_counts.keys() <= CLIFFORD:
                return n * n * shots + n * circuit.num_ops <= _SHORT_TABLEAUS
            return circuit.num_ops << n <= _SHORT_AMPLITUDES


@dataclass(frozen=True, slots=True)
class Due:
    """A job whose turn it is: what its process is asked, what cancels it, and the memory it is let in with."""

    job_id: str
    request: dict[str, Any]
    cancel: threading.Event
    needed: int


class WaitingLine:
    """The line in front of so many ``workers``; thread-safe."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._changed = threading.Condition()
        self._jobs: deque[tuple[str, bool]] = deque()
        self._is_closed = False

    def add(self, job_id: str, *, is_short: bool) -> None:
        """A job at the end of the line."""
        with self._changed:
            self._jobs.append((job_id, is_short))
            self._changed.notify()

    def put_back(self, job_ids: Sequence[str]) -> None:
        """Jobs that were taken and not run, at the front again; each is taken alone now."""
        with self._changed:
            self._jobs.extendleft((job_id, False) for job_id in reversed(job_ids))
            self._changed.notify_all()

    def take(self, *, waits: bool) -> list[str]:
        """The next job, or several short ones where each worker has as many to do; none when closed.

        ``waits``: for one to come. Without it there may be none.
        """
        with self._changed:
            while waits and not self._jobs and not self._is_closed:
                self._changed.wait()
            if self._is_closed or not self._jobs:
                return []
            most = min(TOGETHER, -(-len(self._jobs) // self._workers))
            job_id, is_short = self._jobs.popleft()
            taken = [job_id]
            while is_short and len(taken) < most and self._jobs[0][1]:
                taken.append(self._jobs.popleft()[0])
            return taken

    def close(self) -> None:
        """Let all who wait go; nothing is taken any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
