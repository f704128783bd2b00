r"""The signed receipt of a job: what ran where, with which result and at what cost, verifiable offline.

A receipt is one JSON object in canonical form: keys sorted, no white space, UTF-8, no floating-point numbers (amounts
are decimal strings; times RFC 3339 in UTC with microseconds), so that the same facts are always the same bytes.
``signature`` is the miner's hotkey's sr25519 signature, ``0x`` and 128 hex digits, over::

    qcompute-receipt/1\n<canonical JSON of everything but "signature">

The first line keeps a receipt from ever being mistaken for a signed request: a dendrite's message starts with a
number, btauth/1's with its own name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qcompute.chain.contract import Signer
from qcompute.errors import QComputeError
from qcompute.faults import first_fault
from qcompute.miner.job import CostKind, CountsSource, Job, Outcome, Verdict
from qcompute.miner.placement import Placement
from qcompute.units import Counts, Hotkey

VERSION: Final = "qcompute-receipt/1"
_SIGNATURE = re.compile(r"0x[0-9a-f]{128}")
_MAX_BYTES: Final = 1 << 20
_SORTED: Final = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


class FalseReceipt(QComputeError):
    """The receipt is not what its miner signed."""

    code = "false_receipt"


class UnusableReceipt(QComputeError):
    """The text is not a receipt of a kind we know."""

    code = "unusable_receipt"


class Cost(BaseModel):
    """``amount`` is a decimal string; both are null when the cost is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: str | None
    currency: str | None
    kind: CostKind


class ExecutedOn(BaseModel):
    """The device a job was given to. ``device_type`` is null where it is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    account: str | None
    device_id: str | None
    device_type: str | None


class ReceiptPart(BaseModel):
    """A part of a job whose shots ran in several places; ``receipt_sha256`` is of its own receipt, as stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    execution_id: str
    provider: str | None
    device_id: str | None
    shots: int
    verdict: Verdict
    receipt_sha256: str


class Receipt(BaseModel):
    """A verified receipt; field meanings are those of `qcompute.miner.job.Job` and ``Outcome``.

    ``executed_on`` is null for a job that no vendor had; ``fallback_from`` is what was asked for, where the operator's
    declared stand-in answered instead. Receipts from before there were such have neither.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal["qcompute-receipt/1"]
    execution_id: str
    miner_hotkey: str
    validator_hotkey: str
    circuit_sha256: str | None
    provider: str | None
    device_id: str | None
    provider_job_id: str | None
    shots_requested: int
    shots_returned: int | None
    counts_sha256: str | None
    counts_source: CountsSource | None
    verdict: Verdict
    message: str | None
    timestamps: dict[str, Any] = Field(description="received, submitted, settled (ours) and vendor (the vendor's own)")
    cost: Cost
    executed_on: ExecutedOn | None = None
    fallback_from: str | None = None
    parts: list[ReceiptPart] | None = Field(default=None, description="of a job that was split; left out of others")
    signature: str


def counts_sha256(counts: Counts) -> str:
    """SHA-256, in hex, of the canonical JSON of ``counts``."""
    return hashlib.sha256(canonical(counts)).hexdigest()


def canonical(value: object) -> bytes:
    """The one byte form of a JSON value.

    Raises:
        TypeError: a floating-point number, or something JSON has no form for.
    """
    _refuse_floats(value)
    return _in_one_form(value)


def _in_one_form(value: object) -> bytes:
    try:
        return orjson.dumps(value, option=_SORTED)
    except TypeError:
        # Integers beyond 64 bits and keys that are no texts; what has no form at all is refused here as well.
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def build_receipt(job: Job, outcome: Outcome, signer: Signer, *, parts: Sequence[ReceiptPart] | None = None) -> str:
    """The signed receipt of a settled job, as canonical JSON. Two calls differ in the signature only.

    ``parts`` is what ran in several places, for a job that was split.

    Raises:
        ValueError: the job has no verdict yet.
    """
    if job.verdict is None:
        raise ValueError("a receipt needs a verdict")
    cost = outcome.cost
    facts: dict[str, Any] = {
        "version": VERSION,
        "execution_id": job.execution_id,
        "miner_hotkey": signer.hotkey,
        "validator_hotkey": job.validator_hotkey,
        "circuit_sha256": job.circuit_sha256,
        "provider": job.provider,
        "device_id": job.device_id,
        "provider_job_id": job.provider_job_id,
        "shots_requested": job.shots,
        "shots_returned": outcome.shots_returned,
        "counts_sha256": None if outcome.counts is None else counts_sha256(outcome.counts),
        "counts_source": outcome.counts_source,
        "verdict": job.verdict,
        "message": outcome.message,
        "timestamps": {
            "received": _time(job.received_at),
            "submitted": _time(job.submitted_at),
            "settled": _time(job.settled_at),
            "vendor": _without_floats(outcome.timestamps),
        },
        "cost": {
            "amount": None if cost is None else format(cost.amount, "f"),
            "currency": None if cost is None else cost.currency,
            "kind": outcome.cost_kind,
        },
    } | _place(job)
    if parts is not None:
        facts["parts"] = [part.model_dump(mode="json") for part in parts]
    signature = "0x" + signer.sign(_signed_bytes(facts)).hex()
    return _in_one_form(facts | {"signature": signature}).decode()


def _place(job: Job) -> dict[str, Any]:
    """Where it was executed, in place of what; a job that never reached a vendor was executed nowhere."""
    if job.submitted_at is None:
        return {"executed_on": None, "fallback_from": None}
    placement = Placement.of(job.placement)
    current = None if placement is None else placement.current
    is_there = current is not None and (current.account, current.device_id) == (job.provider, job.device_id)
    return {
        "executed_on": {
            "account": job.provider,
            "device_id": job.device_id,
            "device_type": current.device_type if current is not None and is_there else None,
        },
        "fallback_from": None if current is None else current.fallback_from,
    }


def verify_receipt(text: str | bytes) -> Receipt:
    """The receipt in ``text``, whose signature is its miner's.

    Who that miner is must be checked by the reader: compare ``miner_hotkey`` with the one expected.

    Raises:
        UnusableReceipt: not JSON, not a receipt, or of another version.
        FalseReceipt: the signature is not ``miner_hotkey``'s over these facts.
    """
    from qcompute.chain.keys import verify_signature  # noqa: PLC0415 - bittensor is loaded only to verify

    facts = _parsed(text)
    try:
        receipt = Receipt.model_validate(facts)
    except ValidationError as error:
        fault = first_fault(error, whole="receipt")
        raise UnusableReceipt(f"not a receipt of version {VERSION}: {fault}") from None
    _check_amount(receipt.cost)
    if not _SIGNATURE.fullmatch(receipt.signature):
        raise FalseReceipt("the signature is not 0x and 128 lower-case hex digits")
    signed = {name: value for name, value in facts.items() if name != "signature"}
    try:
        message = _signed_bytes(signed)
    except TypeError as error:
        raise UnusableReceipt(str(error)) from None
    if not verify_signature(message, bytes.fromhex(receipt.signature[2:]), Hotkey(receipt.miner_hotkey)):
        raise FalseReceipt(f"the signature is not that of {receipt.miner_hotkey} over this receipt")
    return receipt


def _parsed(text: str | bytes) -> dict[str, Any]:
    if len(text) > _MAX_BYTES:
        raise UnusableReceipt("larger than any receipt")
    try:
        facts = json.loads(text, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError):
        raise UnusableReceipt("it is not JSON") from None
    if not isinstance(facts, dict):
        raise UnusableReceipt("not a JSON object")
    return facts  # pyright: ignore[reportUnknownVariableType] - validated by the model next


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that stands twice would let two readers of one signed text see two different receipts."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _signed_bytes(facts: dict[str, Any]) -> bytes:
    return f"{VERSION}\n".encode() + canonical(facts)


def _check_amount(cost: Cost) -> None:
    if cost.amount is None:
        return
    try:
        amount = Decimal(cost.amount)
    except InvalidOperation:
        raise UnusableReceipt("cost.amount is not a decimal number") from None
    if not amount.is_finite():
        raise UnusableReceipt("cost.amount is not a finite number")


def _time(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _without_floats(value: object) -> object:
    """The vendor's own values with every floating-point number as its shortest decimal text."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return {str(name): _without_floats(item) for name, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - any JSON
    if isinstance(value, list | tuple):
        return [_without_floats(item) for item in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, datetime):
        return _time(value if value.tzinfo else value.replace(tzinfo=UTC))
    if value is None or isinstance(value, str | int):
        return value
    return str(value)


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise TypeError("a signed document holds no floating-point numbers")
    if isinstance(value, dict):
        for item in value.values():  # pyright: ignore[reportUnknownVariableType] - any JSON
            _refuse_floats(item)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(value, list | tuple):
        for item in value:  # pyright: ignore[reportUnknownVariableType] - any JSON
            _refuse_floats(item)  # pyright: ignore[reportUnknownArgumentType]
