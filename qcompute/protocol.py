"""The words validators speak: the circuit synapse and what it carries.

Field names, types and defaults are those of the subnet's reference (``wire/README.md`` 2.1, 4.5 and 4.6 of the
project's study): a validator's dendrite drops a whole reply when one field of one finished row is missing or outside
its enum, so nothing here may be renamed. ``errorMessage`` is camel case on the wire.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

SYNAPSE_NAME: Final = "CircuitSynapse"
"""The synapse's class name, which is also the request path."""

COLLECT_ONLY: Final = "_collect_only"
"""The execution id of a request that brings no job and only collects finished ones."""

FIRST_CURSOR: Final = "0000-00-00 00:00:00"
"""The cursor of a validator that never collected from us."""

EMPTY_BODY_HASH: Final = "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"
"""sha3_256 of nothing: the body hash of every CircuitSynapse, which declares no hashed fields."""

MAX_EXECUTION_ID_LENGTH: Final = 128

_EXECUTION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


PART_MARK: Final = "~"
"""Between the execution id of a job that was split and the number of a part. No request may carry it."""

_PART = re.compile(r"[0-9]{2}")


OWN_PREFIX: Final = "operator."
"""How the execution ids of the operator's own jobs begin (`qcompute run`, `expect`). No request may carry it."""


def is_own(execution_id: str) -> bool:
    """Whether a job is the operator's own: the platform does not know it, and no validator may collect it."""
    return execution_id.startswith(OWN_PREFIX)


def is_row_id(text: str) -> bool:
    """Whether ``text`` may name a row of the ledger: a job, or a part of one."""
    whole, mark, number = text.partition(PART_MARK)
    return is_execution_id(whole) and (not mark or _PART.fullmatch(number) is not None)


def is_execution_id(text: str) -> bool:
    """Whether ``text`` may name a job: it becomes part of URLs and file names, so its characters are few."""
    return _EXECUTION_ID.fullmatch(text) is not None


class ExecutionStatus(StrEnum):
    """A job's status as validators and the job server know it; there is no word for cancelled."""

    PENDING = "Pending"
    QUEUED = "Queued"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"


class ExecutionData(BaseModel):
    """One finished job in a reply. All keys but ``errorMessage`` must be present on the wire, null or not."""

    model_config = ConfigDict(frozen=True)

    execution_id: str
    shots: int
    upload_data_id: str | None
    execution_data: dict[str, Any] | None
    status: ExecutionStatus
    errorMessage: str | None = None  # noqa: N815 - the wire's own spelling


class CircuitSynapse(BaseModel):
    """The part of a request that concerns the job. Unknown fields are ignored, as the reference's axon does.

    ``dendrite`` and ``axon`` of the body are left out on purpose: this protocol does not sign them, so who is asking
    comes from the verified headers alone.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    execution_id: str = Field(max_length=MAX_EXECUTION_ID_LENGTH)
    shots: int = Field(ge=-(2**63), lt=2**63)
    configuration_data: dict[str, Any]
    input_data_url: str = Field(max_length=8192)
    last_circuit: str = Field(max_length=256)
    timeout: float = Field(default=12.0, allow_inf_nan=False)
    total_size: int = Field(default=0, ge=-(2**63), lt=2**63)
    header_size: int = Field(default=0, ge=-(2**63), lt=2**63)

    @field_validator("configuration_data")
    @classmethod
    def _is_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Refuse now what could not be written into a reply or the ledger later, when the job is ours already."""
        try:
            json.dumps(value, allow_nan=False)
            orjson.dumps(value)
        except (ValueError, TypeError):
            raise ValueError("numbers must be finite, and whole ones fit 64 bits") from None
        return value
