"""How much memory this machine has, how much a simulation will take, and who may start: nothing here ever swaps.

An estimate decides when a simulation starts; the limit of its process stays what ends one that was underestimated.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Final

from qcompute.circuits.program import CompiledCircuit
from qcompute.vendor.aer.methods import BYTES_PER_AMPLITUDE, CLIFFORD, Method

BASE_BYTES: Final = 256 << 20
"""Resident memory of a child before it simulates: 210 MiB, measured after all six circuits of the benchmark."""

_SAFE_PART: Final = 0.75
"""Of the memory there is: the rest is the system's, the daemon's, and what was underestimated."""

_LOOK_SECONDS: Final = 1.0
"""Memory that another program gives back is seen this late."""

_BOND_COPIES: Final = 3
"""A matrix product state's singular value decomposition holds the two tensors and its factors at once."""


def simulation_bytes(circuit: CompiledCircuit, method: Method, shots: int, *, noisy: bool, at_most: int) -> int:
    """What a simulation of ``circuit`` is expected to take beside `BASE_BYTES`.

    ``at_most`` is what its process has for amplitudes: Aer chooses a density matrix only where one fits, and a matrix
    product state, for which only an upper bound is known beforehand, is stopped there.
    """
    samples = _sample_bytes(circuit, shots)
    if method in (Method.MATRIX_PRODUCT_STATE, Method.TENSOR_NETWORK):
        return max(min(_chain_bytes(circuit) + samples, at_most), samples)
    return _state_bytes(circuit, method, shots, noisy=noisy, at_most=at_most) + samples


def _state_bytes(circuit: CompiledCircuit, method: Method, shots: int, *, noisy: bool, at_most: int) -> int:
    vector = BYTES_PER_AMPLITUDE << circuit.num_qubits
    match method:
        case Method.STATEVECTOR:
            return vector
        case Method.DENSITY_MATRIX:
            return BYTES_PER_AMPLITUDE << 2 * circuit.num_qubits
        case Method.STABILIZER:
            return _tableau_bytes(circuit)
        case Method.MATRIX_PRODUCT_STATE | Method.TENSOR_NETWORK:
            return _chain_bytes(circuit)
        case Method.AUTOMATIC:
            if not noisy:
                return _tableau_bytes(circuit) if circuit.gate_counts.keys() <= CLIFFORD else vector
            # Aer's own rule: one density matrix is cheaper than a trajectory for each shot.
            matrix = BYTES_PER_AMPLITUDE << 2 * circuit.num_qubits
            return matrix if shots > 1 << circuit.num_qubits and matrix <= at_most else vector


def _tableau_bytes(circuit: CompiledCircuit) -> int:
    return circuit.num_qubits * circuit.num_qubits


def _chain_bytes(circuit: CompiledCircuit) -> int:
    """An upper bound: no bond is larger than the gates across it, or the qubits on one side of it, can make it."""
    n, crossed = circuit.num_qubits, circuit.busiest_cut
    bonds = [1 << min(cut, n - cut, n if crossed is None else crossed) for cut in range(n + 1)]
    sites = sum(2 * left * right for left, right in pairwise(bonds))
    return _BOND_COPIES * BYTES_PER_AMPLITUDE * sites


def _sample_bytes(circuit: CompiledCircuit, shots: int) -> int:
    """Aer keeps every shot as one 64-bit number for each measured qubit before it counts them."""
    return shots * (8 * len(circuit.measured) + 64)


def gib(size: int) -> str:
    """Bytes in words, with three digits."""
    return f"{size / (1 << 30):.3g} GiB"


def machine_bytes() -> int:
    """Memory this process and its children may have: the machine's, or a control group's where that is less."""
    limits = [_meminfo("MemTotal"), *(_number(file) for file in _group_limits())]
    return min(limit for limit in limits if limit is not None) if any(limits) else 1 << 30


def safe_bytes() -> int:
    """What simulations may take together when the operator does not say."""
    return int(machine_bytes() * _SAFE_PART)


def available_bytes() -> int | None:
    """Memory that can be had now without swapping; None where the system does not say."""
    return _meminfo("MemAvailable")


def _meminfo(name: str, file: Path = Path("/proc/meminfo")) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+)".encode(), file.read_bytes(), re.MULTILINE)  # for every job: not by lines
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _group_limits(group: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """Files that may hold a limit: of our group and of all above it, in both versions of control groups."""
    try:
        lines = group.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    files: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = mount, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = mount / "memory", "memory.limit_in_bytes"
        else:
            continue
        ours = root / path.lstrip("/")
        files += [folder / name for folder in (ours, *ours.parents) if folder.is_relative_to(root)]
    return files


def _number(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # `max` is no limit


class Admission:
    """Lets simulations start while they fit beside those that run, first come first served; thread-safe.

    What waits in front holds up what is behind it: else a large job would wait for as long as small ones come.
    """

    def __init__(self, available: Callable[[], int | None] = available_bytes) -> None:
        self._available = available
        self._changed = threading.Condition()
        self._used = 0
        self._turns: deque[object] = deque()

    @property
    def used(self) -> int:
        """Bytes of what was admitted and has not left."""
        with self._changed:
            return self._used

    def enter(self, needed: int, total: int, gave_up: Callable[[], bool]) -> bool:
        """Wait until ``needed`` bytes fit into ``total`` and the machine has them free; False: ``gave_up`` said so.

        Whoever got True calls `leave` with the same number. `look_again` makes a waiting call ask ``gave_up`` now.
        """
        turn = object()
        with self._changed:
            self._turns.append(turn)
            try:
                while not gave_up():
                    if self._turns[0] is turn and self._fits(needed, total):
                        self._used += needed
                        return True
                    self._changed.wait(_LOOK_SECONDS)
                return False
            finally:
                self._turns.remove(turn)
                self._changed.notify_all()

    def enter_at_once(self, needed: int, total: int) -> bool:
        """`enter` for who does not want to wait; False where it would have to."""
        with self._changed:
            if self._turns or not self._fits(needed, total):
                return False
            self._used += needed
            return True

    def leave(self, needed: int) -> None:
        """Give back what was entered with."""
        with self._changed:
            self._used -= needed
            self._changed.notify_all()

    def look_again(self) -> None:
        """Wake all who wait."""
        with self._changed:
            self._changed.notify_all()

    def _fits(self, needed: int, total: int) -> bool:
        if self._used + needed > total:
            return False
        free = self._available()
        return free is None or needed <= free


MACHINE: Final = Admission()
"""One for the process: nodes of a fleet share the machine they run on."""
