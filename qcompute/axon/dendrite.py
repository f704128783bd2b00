"""The wire format of bittensor 7 to 10: a dendrite's headers in, an axon's headers and body out.

Byte-level facts are from captured exchanges with real dendrites 9.9.0 and 10.5.0 (docs/reference/wire.md). This
protocol signs who asks whom and when, but not the body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from qcompute.axon.contract import Reply
from qcompute.errors import NotAllowed
from qcompute.protocol import EMPTY_BODY_HASH, SYNAPSE_NAME, CircuitSynapse, ExecutionData
from qcompute.units import Hotkey

Headers = Mapping[bytes, bytes]
Verify = Callable[[bytes, bytes, Hotkey], bool]

_SIGNATURE: Final = re.compile(r"0x[0-9a-fA-F]{128}")
_NONCE: Final = re.compile(r"[0-9]{1,20}")
_VERSION: Final = re.compile(r"[0-9]{1,18}")
_WORD: Final = re.compile(r"[\x21-\x7e]{1,256}")
_NANO: Final = 1_000_000_000
_MAX_NONCE: Final = 2**63 - 1
HTTP_BAD_REQUEST: Final = 400

_INPUT_OBJECTS: Final = [
    (b"bt_header_input_obj_execution_id", b"IiI="),
    (b"bt_header_input_obj_shots", b"MA=="),
    (b"bt_header_input_obj_configuration_data", b"e30="),
    (b"bt_header_input_obj_input_data_url", b"IiI="),
    (b"bt_header_input_obj_last_circuit", b"IiI="),
]
"""What a dendrite puts there for each required field: the base64 of its type's empty value."""


@dataclass(frozen=True, slots=True)
class DendriteHeaders:
    """What a dendrite says of itself and of us; nothing of it is believed before `verify`."""

    hotkey: Hotkey
    nonce_ns: int
    uuid: str
    axon_hotkey: str
    body_hash: str
    signature: str = field(repr=False)
    version: str
    ip: str


def read_headers(headers: Headers) -> DendriteHeaders:
    """The headers that matter, with lower-case names.

    Raises:
        NotAllowed: one that is signed is missing or malformed; the texts are the reference axon's where it has one.
    """
    nonce = _text(headers, b"bt_header_dendrite_nonce")
    if not nonce:
        raise not_verified("Missing Nonce")
    if not _NONCE.fullmatch(nonce) or int(nonce) > _MAX_NONCE:
        raise NotAllowed("Bad request: bt_header_dendrite_nonce is not a nanosecond time", status=HTTP_BAD_REQUEST)
    signature = _text(headers, b"bt_header_dendrite_signature")
    if not signature:
        raise not_verified("Missing Signature")
    if not _SIGNATURE.fullmatch(signature):
        raise not_verified("Invalid signature format. Expected hex string.")
    return DendriteHeaders(
        hotkey=Hotkey(_required(headers, b"bt_header_dendrite_hotkey")),
        nonce_ns=int(nonce),
        uuid=_required(headers, b"bt_header_dendrite_uuid"),
        axon_hotkey=_text(headers, b"bt_header_axon_hotkey"),
        body_hash=_required(headers, b"computed_body_hash"),
        signature=signature,
        version=_text(headers, b"bt_header_dendrite_version"),
        ip=_text(headers, b"bt_header_dendrite_ip"),
    )


def verify(headers: DendriteHeaders, our_hotkey: Hotkey, check: Verify) -> None:
    """The signature first, then whether it is meant for us, then the one possible body hash.

    The signed message is built with *our* hotkey, so a request signed for another axon never verifies.

    Raises:
        NotAllowed: it does not verify.
    """
    message = f"{headers.nonce_ns}.{headers.hotkey}.{our_hotkey}.{headers.uuid}.{headers.body_hash}"
    if not check(message.encode(), bytes.fromhex(headers.signature[2:]), headers.hotkey):
        if headers.axon_hotkey and headers.axon_hotkey != our_hotkey:
            raise not_verified(f"Signature mismatch: the request is for another axon, this one is {our_hotkey}")
        raise not_verified("Signature mismatch")
    if headers.axon_hotkey and headers.axon_hotkey != our_hotkey:
        raise not_verified(f"the request names another axon, this one is {our_hotkey}")
    if headers.body_hash != EMPTY_BODY_HASH:
        raise NotAllowed("Bad request: computed_body_hash is not that of a CircuitSynapse", status=HTTP_BAD_REQUEST)


def check_fresh(nonce_ns: int, now_ns: int, *, past_seconds: float, ahead_seconds: float) -> None:
    """Whether a nonce lies in our own window; the sender's unsigned timeout header does not widen it.

    Raises:
        NotAllowed: too old, or too far ahead.
    """
    age_seconds = (now_ns - nonce_ns) / _NANO
    if age_seconds > past_seconds:
        raise not_verified(
            f"Nonce is too old: acceptable delta is {past_seconds:.2f} seconds but request was {age_seconds:.2f} "
            "seconds old"
        )
    if -age_seconds > ahead_seconds:
        raise not_verified(
            f"Nonce is in the future: acceptable delta is {ahead_seconds:.2f} seconds but request was "
            f"{-age_seconds:.2f} seconds ahead; check your clock"
        )


def not_verified(why: str) -> NotAllowed:
    """The refusal in the reference axon's words."""
    return NotAllowed(f"Not Verified with error: {why}")


def status_headers(status: int, message: str, process_seconds: float) -> list[tuple[bytes, bytes]]:
    """What every reply carries, in lower case: a dendrite matches these names case-sensitively."""
    return [
        (b"bt_header_axon_status_code", b"%d" % status),
        (b"bt_header_axon_status_message", _header_text(message)),
        (b"bt_header_axon_process_time", b"%.6f" % process_seconds),
    ]


def reply_headers(
    request: DendriteHeaders, our_hotkey: Hotkey, synapse: CircuitSynapse, process_seconds: float
) -> list[tuple[bytes, bytes]]:
    """The header family of a successful reply, as the reference axon sends it."""
    return [
        (b"name", SYNAPSE_NAME.encode()),
        (b"timeout", str(synapse.timeout).encode()),
        *status_headers(200, "Success", process_seconds),
        (b"bt_header_axon_hotkey", our_hotkey.encode()),
        (b"bt_header_dendrite_ip", _header_text(request.ip)),
        (b"bt_header_dendrite_version", _header_text(request.version)),
        (b"bt_header_dendrite_nonce", b"%d" % request.nonce_ns),
        (b"bt_header_dendrite_uuid", _header_text(request.uuid)),
        (b"bt_header_dendrite_hotkey", request.hotkey.encode()),
        (b"bt_header_dendrite_signature", request.signature.encode()),
        *_INPUT_OBJECTS,
        (b"header_size", b"%d" % synapse.header_size),
        (b"total_size", b"%d" % synapse.total_size),
        (b"computed_body_hash", EMPTY_BODY_HASH.encode()),
    ]


def reply_document(synapse: CircuitSynapse, reply: Reply) -> dict[str, Any]:
    """The synapse's own fields of a reply: all that a validator reads, whichever way the request was signed."""
    return {
        "name": SYNAPSE_NAME,
        "execution_id": synapse.execution_id,
        "shots": synapse.shots,
        "configuration_data": synapse.configuration_data,
        "input_data_url": synapse.input_data_url,
        "success": reply.success,
        "error_message": reply.error_message,
        "last_circuit": reply.last_circuit,
        "rate_limited": reply.rate_limited,
        "execution_status": reply.execution_status,
        "finished_executions": [_row(row) for row in reply.finished],
    }


def dendrite_document(
    request: DendriteHeaders, our_hotkey: Hotkey, synapse: CircuitSynapse, reply: Reply, process_seconds: float
) -> dict[str, Any]:
    """The whole synapse a dendrite expects: its own fields, and the two terminals around them."""
    return {
        **reply_document(synapse, reply),
        "timeout": synapse.timeout,
        "total_size": synapse.total_size,
        "header_size": synapse.header_size,
        "dendrite": {
            **_TERMINAL,
            "ip": request.ip or None,
            "version": int(request.version) if _VERSION.fullmatch(request.version) else None,
            "nonce": request.nonce_ns,
            "uuid": request.uuid,
            "hotkey": request.hotkey,
            "signature": request.signature,
        },
        "axon": {
            **_TERMINAL,
            "status_code": 200,
            "status_message": "Success",
            "process_time": process_seconds,
            "hotkey": our_hotkey,
        },
        "computed_body_hash": "",
    }


_TERMINAL: Final[Mapping[str, None]] = dict.fromkeys(
    ("status_code", "status_message", "process_time", "ip", "port", "version", "nonce", "uuid", "hotkey", "signature")
)


def _row(row: ExecutionData) -> dict[str, Any]:
    return {
        "execution_id": row.execution_id,
        "shots": row.shots,
        "upload_data_id": row.upload_data_id,
        "execution_data": row.execution_data,
        "status": row.status,
        "errorMessage": row.errorMessage,
    }


def _text(headers: Headers, name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")


def _required(headers: Headers, name: bytes) -> str:
    text = _text(headers, name)
    if not _WORD.fullmatch(text):
        raise not_verified(f"Missing or malformed {name.decode()}")
    return text


def _header_text(text: str) -> bytes:
    """Text that cannot break out of its header line."""
    if text.isascii() and text.isprintable():  # nearly always
        return text[:1024].encode("ascii")
    return "".join(char if " " <= char <= "~" else "?" for char in text)[:1024].encode("ascii")
