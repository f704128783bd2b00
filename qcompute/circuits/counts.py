"""The one place that knows about bit order.

Everywhere in qcompute a key of counts is written as Qiskit writes it, without spaces: bit 0 of a register is
rightmost, and the register declared last is leftmost. The circuit that shows it::

    creg a[1]; creg b[2];  x q[0];  measure q[0] -> b[0];      gives {"010": shots}
                                                                 bba: b[1] b[0] a[0]

A Bell pair would hide every mistake here, because its two keys read the same backwards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

from qcompute.errors import BadReply
from qcompute.units import Counts

_FIELD: Final = "counts"
_BITS: Final = re.compile(r"[01]+")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]{1,1024}")


def normalize_counts(raw: object, *, shots: int, num_clbits: int | None) -> Counts:
    """A vendor's counts as ours: no spaces between registers, one key length, whole numbers, none of them zero.

    ``num_clbits`` is needed to read hexadecimal keys (``0x3``, as Aer's raw results have them) and, when given, is
    the length every key must have.

    Raises:
        BadReply: anything that cannot be the result of ``shots`` runs: not a mapping, empty, other characters, keys of
            different lengths, negative or fractional numbers, more results than shots.
    """
    if not isinstance(raw, Mapping):
        raise BadReply("the vendor's counts are not a mapping of bit strings to numbers", field=_FIELD)
    counts: Counter[str] = Counter()
    for key, value in cast("Mapping[object, object]", raw).items():
        counts[_key(key, num_clbits)] += _number(value)
    counts = +counts
    lengths = {len(key) for key in counts}
    if not lengths:
        raise BadReply("the vendor's counts are empty", field=_FIELD)
    if len(lengths) > 1:
        raise BadReply("the vendor's counts have keys of different lengths", field=_FIELD)
    if num_clbits is not None and lengths != {num_clbits}:
        raise BadReply(f"the vendor's counts have {lengths.pop()} bits, the circuit has {num_clbits}", field=_FIELD)
    if counts.total() > shots:
        raise BadReply(f"the vendor counted {counts.total()} results for {shots} shots", field=_FIELD)
    return dict(sorted(counts.items()))


def bitstring(values: Sequence[int]) -> str:
    """``values[k]`` is classical bit k, over all registers in declared order; returns the key, bit 0 rightmost."""
    return "".join("1" if value else "0" for value in reversed(values))


def counts_of(rows: Iterable[Sequence[int]]) -> Counts:
    """Counts of measured shots, each a row of classical bits as `bitstring` takes it."""
    return dict(sorted(Counter(bitstring(row) for row in rows).items()))


def _key(key: object, num_clbits: int | None) -> str:
    if not isinstance(key, str):
        raise BadReply("the vendor's counts have a key that is not a text", field=_FIELD)
    text = key.replace(" ", "")
    if num_clbits is not None and _HEX.fullmatch(text):
        text = format(int(text, 16), f"0{num_clbits}b")
    if not _BITS.fullmatch(text):
        raise BadReply("the vendor's counts have a key that is not made of 0 and 1", field=_FIELD)
    return text


def _number(value: object) -> int:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or int(cast("float", value)) < 0:
        raise BadReply("the vendor's counts have a number of shots that is not a whole number", field=_FIELD)
    return int(cast("float", value))
