"""What Amazon Braket says of a task, what it measured, and the tag that says how to read it.

Facts, run against amazon-braket-default-simulator 1.41: the leftmost column is the lowest classical bit that was
written, and bits that were not written are left out; the result names qubits and not bits. Values are numbers or
characters; a device may give probabilities in place of shots (IonQ does).
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from qcompute.circuits.measurement import MeasurementMap, Register, shots_of_probabilities
from qcompute.errors import BadReply
from qcompute.units import Counts
from qcompute.vendor.http import read

_TAG_CHARACTERS: Final = 256
_TAG: Final = re.compile(r"\w+:\d{1,6}(/\w+:\d{1,6})*=\d{1,6}:\d{1,6}:\d{1,6}(/\d{1,6}:\d{1,6}:\d{1,6})*", re.ASCII)


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class QueueInfo(_Part):
    """``position`` is a text: ``"3"``, ``">2000"``, ``"None"``."""

    position: str | None = None


class Task(_Part):
    """What GetQuantumTask says; SearchQuantumTasks leaves out the reason, the queue and the good shots."""

    quantum_task_arn: str
    status: str
    device_arn: str
    shots: int
    output_s3_bucket: str = Field(alias="outputS3Bucket")
    output_s3_directory: str = Field(alias="outputS3Directory")
    created_at: datetime
    ended_at: datetime | None = None
    tags: dict[str, str] = {}
    failure_reason: str | None = None
    num_successful_shots: int | None = None
    queue_info: QueueInfo = QueueInfo()


class Simulated(_Part):
    """``execution_duration`` in milliseconds."""

    execution_duration: float | None = None


class Additional(_Part):
    """What else is said; QPUs have their compiled programs here."""

    simulator_metadata: Simulated | None = None


class Result(_Part):
    """``results.json``; column k, and character k of a probability's key, is of qubit ``measured_qubits[k]``."""

    measured_qubits: list[int]
    measurements: list[list[int | str]] | None = None
    measurement_probabilities: dict[str, float] | None = None
    additional_metadata: Additional = Additional()

    @property
    def simulator_seconds(self) -> float:
        """How long a simulator worked; 0 for a QPU, which does not say."""
        simulated = self.additional_metadata.simulator_metadata
        return (simulated.execution_duration or 0) / 1000 if simulated else 0.0


def map_to_tag(measurement: MeasurementMap) -> str | None:
    """``c0:1/c1:2=0:2:1/1:0:2``: registers with sizes, then runs of ``clbit:qubit:how many``. None when it is too long.

    The characters are those AWS allows in a tag.
    """
    runs: list[list[int]] = []
    for clbit, qubit in measurement.measured:
        if runs and (clbit, qubit) == (runs[-1][0] + runs[-1][2], runs[-1][1] + runs[-1][2]):
            runs[-1][2] += 1
        else:
            runs.append([clbit, qubit, 1])
    registers = "/".join(f"{register.name}:{register.size}" for register in measurement.registers)
    tag = f"{registers}={'/'.join(':'.join(map(str, run)) for run in runs)}"
    return tag if len(tag) <= _TAG_CHARACTERS and map_of_tag(tag) == measurement else None


def map_of_tag(tag: str) -> MeasurementMap | None:
    """What `map_to_tag` wrote; None for anything else."""
    if not _TAG.fullmatch(tag):
        return None
    registers, runs = ([part.split(":") for part in half.split("/")] for half in tag.split("="))
    return MeasurementMap(
        registers=tuple(Register(name=name, size=int(size)) for name, size in registers),
        measured=tuple(
            (int(clbit) + step, int(qubit) + step) for clbit, qubit, length in runs for step in range(int(length))
        ),
    )


def result_of(content: bytes) -> Result:
    """``results.json``. Raises BadReply when it is not as expected."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise BadReply("the result in S3 is not JSON", field="results.json") from None
    return read(Result, document, what="results.json")


def counts_of_task(result: Result, measurement: MeasurementMap, shots: int) -> tuple[Counts, str]:
    """Counts, and whether they were measured or derived. Raises BadReply when a qubit we measured is not in there."""
    missing = set(measurement.qubits) - set(result.measured_qubits)
    if missing:
        raise BadReply(f"qubit {min(missing)} was measured and is not in the result", field="measuredQubits")
    columns = [result.measured_qubits.index(qubit) for qubit in measurement.qubits]
    width = len(result.measured_qubits)
    if result.measurements is not None:
        rows, source = iter(result.measurements), "measured"
    elif result.measurement_probabilities is not None:
        outcomes = shots_of_probabilities(result.measurement_probabilities, shots)
        rows = itertools.chain.from_iterable(itertools.repeat(list(key), times) for key, times in outcomes.items())
        source = "sampled"
    else:
        raise BadReply("the result has neither measurements nor probabilities", field="measurements")
    return measurement.counts_from_rows(_columns(row, columns, width) for row in rows), source


def _columns(row: Sequence[int | str], columns: Sequence[int], width: int) -> list[int | str]:
    if len(row) != width:
        raise BadReply(f"a shot has {len(row)} bits, and {width} qubits were measured", field="measurements")
    return [row[column] for column in columns]
