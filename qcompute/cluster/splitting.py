"""Honest splitting of work over nodes: pure functions, nothing here talks to anybody.

Two kinds are exact: the shots of one circuit, which are independent of each other, and the circuits of a batch. A
third, circuit cutting (`qcompute.cluster.cutting`), gives expectation values at a stated price in shots. There is no
fourth: an entangled state of n qubits has 2^n amplitudes that belong together, and parts of it that run on separate
machines cannot know of each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qcompute.errors import BadReply, CannotRun
from qcompute.faults import first_fault
from qcompute.units import Counts, Shots

Node = TypeVar("Node")

CANNOT_SPLIT: Final = "cannot_split"
"""The reason word of every refusal to split."""

MAX_PARTS: Final = 64
"""Each part is a job of its own, with its own fee and receipt."""


class SplitKind(StrEnum):
    """How work may be divided."""

    SHOTS = "shots"
    """One circuit, its shots over nodes: exact, because shots are independent; the counts are added up."""
    BATCH = "batch"
    """Several circuits over nodes: exact."""
    CUTTING = "cutting"
    """One circuit in smaller pieces: expectation values only, and many times the shots."""


class SplitRequest(BaseModel):
    """``configuration_data.split``, understood: the shots of this one job over ``parts`` nodes.

    ``mixed`` is the caller's explicit word that nodes of different kinds may answer together: counts of two devices
    added up are the counts of neither.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    parts: int = Field(ge=2, le=MAX_PARTS)
    mixed: bool = False

    @classmethod
    def of(cls, configuration_data: Mapping[str, Any]) -> SplitRequest | None:
        """What a job asks for; None when it says nothing.

        Raises:
            CannotRun: it asks for something else than its shots to be split, or a value cannot be honoured.
        """
        asked = configuration_data.get("split")
        if asked is None:
            return None
        if not isinstance(asked, Mapping):
            raise CannotRun("configuration_data.split must be an object with kind and parts", reason="bad_option")
        words: dict[str, Any] = {str(name): value for name, value in asked.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - any JSON
        check_job_may_split(words.pop("kind", None))
        try:
            return cls.model_validate(words)
        except ValidationError as error:
            raise CannotRun(first_fault(error, "configuration_data.split"), reason="bad_option") from None


def check_job_may_split(kind: object) -> None:
    """Raise `CannotRun` unless a job, which is one circuit with counts for an answer, can be split this way."""
    if kind == SplitKind.SHOTS:
        return
    if kind is None:
        raise CannotRun('configuration_data.split.kind is missing; it may be "shots"', reason="bad_option")
    if kind == SplitKind.BATCH:
        raise CannotRun("a job is one circuit: there is no batch to split over nodes", reason=CANNOT_SPLIT)
    if kind == SplitKind.CUTTING:
        raise CannotRun(
            "a job is answered with counts, and circuit cutting gives expectation values only", reason=CANNOT_SPLIT
        )
    raise CannotRun(
        "a circuit cannot be split by its qubits: an entangled state of n qubits has 2^n amplitudes that belong "
        "together, and machines that each hold a part of the qubits would compute something else. "
        'configuration_data.split.kind may be "shots"',
        reason=CANNOT_SPLIT,
    )


def split_shots(shots: int, parts: int) -> tuple[Shots, ...]:
    """Sizes of so many parts: they add up to ``shots``, differ by at most one, the larger ones first; none is empty.

    Raises:
        CannotRun: fewer shots than parts, or no parts.
    """
    if not 1 <= parts <= shots:
        raise CannotRun(f"{shots} shots cannot be split into {parts} parts", reason=CANNOT_SPLIT)
    each, larger = divmod(shots, parts)
    return tuple(Shots(each + (index < larger)) for index in range(parts))


def split_batch(items: int, nodes: Sequence[Node]) -> dict[Node, tuple[int, ...]]:
    """Which of the items 0, 1, … each node runs, in order; shares differ by at most one.

    A node without any is left out. Neighbours go to different nodes: the largest of a growing series are spread.

    Raises:
        CannotRun: there is no node.
    """
    if not nodes:
        raise CannotRun("there is no node to run the circuits on", reason=CANNOT_SPLIT)
    shares = {node: tuple(range(index, items, len(nodes))) for index, node in enumerate(nodes)}
    return {node: share for node, share in shares.items() if share}


def merge_counts(parts: Iterable[Counts]) -> Counts:
    """The counts of all shots of one circuit from those of its parts: sums, exact.

    Raises:
        BadReply: there is none, a part is empty, or two parts have keys of different lengths: they are not results of
            one circuit.
    """
    merged: Counter[str] = Counter()
    widths: set[int] = set()
    for part in parts:
        if not part:
            raise BadReply("a part of a split job has no counts", field="counts")
        merged.update(part)
        widths |= {len(key) for key in part}
    if not widths:
        raise BadReply("a split job has no parts", field="counts")
    if len(widths) > 1:
        found = ", ".join(str(width) for width in sorted(widths))
        raise BadReply(f"the parts of a split job have keys of different lengths: {found} bits", field="counts")
    return dict(sorted(merged.items()))
