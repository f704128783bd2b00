"""From what a vendor measured to counts: the map that is stored before a job is submitted, and its readers.

Vendors return different things for the same circuit: rows of one register's bits, bits by register name, integers over
all qubits. Each reader here takes one of these forms and gives counts in the one bit order of
`qcompute.circuits.counts`. Classical bits that are never written read 0, as on Qiskit's simulators.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict

from qcompute.circuits.counts import bitstring, counts_of
from qcompute.errors import BadReply
from qcompute.units import Counts

_ROUNDED: Final = 0.01
"""Vendors round: probabilities may miss 1 by so much."""


class Register(BaseModel):
    """One classical register, in declared order; ``size`` in bits."""

    model_config = ConfigDict(frozen=True)

    name: str
    size: int


class MeasurementMap(BaseModel):
    """Which classical bit was read from which qubit, in the circuit that was submitted.

    ``registers`` are the user's, in declared order; ``measured`` holds ``(clbit, qubit)`` in clbit order, clbits
    numbered over all registers, qubits as the submitted text numbers them.
    """

    model_config = ConfigDict(frozen=True)

    registers: tuple[Register, ...]
    measured: tuple[tuple[int, int], ...]

    @property
    def num_clbits(self) -> int:
        """Classical bits of all registers: the length of every key."""
        return sum(register.size for register in self.registers)

    @property
    def written(self) -> tuple[int, ...]:
        """The classical bits that are written, ascending: the columns of a one-register result."""
        return tuple(clbit for clbit, _ in self.measured)

    @property
    def qubits(self) -> tuple[int, ...]:
        """The qubit behind each column of `written`."""
        return tuple(qubit for _, qubit in self.measured)

    def counts_from_rows(self, rows: Iterable[Sequence[int | str]]) -> Counts:
        """Counts of shots, each a row with one value for each bit of `written`, in that order.

        Raises:
            BadReply: a row has another length, or a value that is not 0 or 1.
        """
        return counts_of(self._spread(row) for row in rows)

    def counts_from_registers(self, shots: Iterable[Mapping[str, Sequence[int | str]]]) -> Counts:
        """Counts of shots, each a mapping of register name to its bits by index: element 0 is bit 0.

        A register that a shot leaves out reads 0 throughout, if nothing was measured into it.

        Raises:
            BadReply: a register that was measured is missing, or has another width.
        """
        return counts_of(self._joined(shot) for shot in shots)

    def counts_from_qubits(self, outcomes: Iterable[tuple[Sequence[int], int]]) -> Counts:
        """Counts of outcomes over all qubits: ``(values by qubit, number of shots)``.

        Raises:
            BadReply: an outcome is too short to have the qubits that were measured.
        """
        counts: Counter[str] = Counter()
        for values, shots in outcomes:
            if self.measured and max(self.qubits) >= len(values):
                raise BadReply("the vendor's result has fewer qubits than were measured", field="results")
            counts[bitstring(self._spread([values[qubit] for qubit in self.qubits]))] += shots
        return dict(sorted((+counts).items()))

    def _spread(self, row: Sequence[int | str]) -> list[int]:
        if len(row) != len(self.measured):
            raise BadReply(
                f"the vendor's result has {len(row)} bits a shot where {len(self.measured)} were measured",
                field="results",
            )
        values = [0] * self.num_clbits
        for clbit, value in zip(self.written, row, strict=True):
            values[clbit] = bit(value)
        return values

    def _joined(self, shot: Mapping[str, Sequence[int | str]]) -> list[int]:
        values: list[int] = []
        written = set(self.written)
        for register in self.registers:
            start = len(values)
            bits = shot.get(register.name)
            if bits is None and written.isdisjoint(range(start, start + register.size)):
                bits = [0] * register.size
            if bits is None or len(bits) != register.size:
                raise BadReply(f"the vendor's result lacks bits of register {register.name[:40]!r}", field="results")
            values.extend(bit(value) for value in bits)
        return values


def bit(value: int | str) -> int:
    """0 or 1 of a vendor's element, which may be a number or a character.

    Raises:
        BadReply: it is neither.
    """
    if value in (0, "0"):
        return 0
    if value in (1, "1"):
        return 1
    raise BadReply("the vendor's result has a bit that is neither 0 nor 1", field="results")


def shots_of_probabilities(probabilities: Mapping[str, float], shots: int) -> dict[str, int]:
    """Whole numbers of shots that add up to ``shots``, as close to the probabilities as whole numbers get.

    Largest remainders are rounded up, ties by key, so that the answer is the same at every call. What it gives was not
    measured: whoever uses it says so (``counts_source`` is ``sampled``).

    Raises:
        BadReply: a probability is negative or no number, or they do not add up to about 1.
    """
    possible = all(0 <= value <= 1 + _ROUNDED for value in probabilities.values())  # not so for NaN
    total = math.fsum(probabilities.values()) if possible else 0.0  # the same in whatever order they come
    if abs(total - 1) > _ROUNDED:
        raise BadReply("the vendor's probabilities do not add up to 1", field="results")
    exact = {key: value / total * shots for key, value in probabilities.items()}
    whole = {key: int(value) for key, value in exact.items()}
    by_remainder = sorted(exact, key=lambda key: (whole[key] - exact[key], key))
    for key in by_remainder[: shots - sum(whole.values())]:
        whole[key] += 1
    return {key: value for key, value in whole.items() if value}
