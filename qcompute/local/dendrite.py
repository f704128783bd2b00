"""What a validator's dendrite sends and how it takes the reply, without bittensor 10."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import Any, Final

import aiohttp
from pydantic import BaseModel, ValidationError

from qcompute.chain.contract import Signer
from qcompute.protocol import EMPTY_BODY_HASH, SYNAPSE_NAME, ExecutionData, ExecutionStatus
from qcompute.units import Hotkey

VERSION: Final = 10_005_000
TIMEOUT_SECONDS: Final = 10.0


class _Reply(BaseModel):
    """The fields a dendrite fills; one that does not fit drops the whole reply."""

    execution_id: str
    shots: int
    configuration_data: dict[str, Any]
    input_data_url: str
    last_circuit: str
    success: bool = False
    error_message: str | None = None
    rate_limited: bool | None = False
    execution_status: ExecutionStatus = ExecutionStatus.PENDING
    finished_executions: list[ExecutionData] = []


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query came to. ``status`` is the dendrite's: 200, the axon's, 408, 503 or 422 for what cannot be read."""

    status: int
    message: str
    success: bool = False
    error_message: str | None = None
    rate_limited: bool = False
    execution_status: ExecutionStatus = ExecutionStatus.PENDING
    last_circuit: str | None = None
    finished: list[ExecutionData] = field(default_factory=list[ExecutionData])
    seconds: float = 0.0


class Dendrite:
    """Queries axons, each time on a new connection."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._uuid = str(uuid.uuid1())

    async def query(self, host: str, port: int, axon_hotkey: Hotkey, fields: dict[str, Any]) -> Answer:
        """One query; never raises for anything the other side does."""
        began = time.perf_counter()
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        body = json.dumps(self._body(fields))
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    f"http://{host}:{port}/{SYNAPSE_NAME}",
                    data=body,
                    headers=signed_headers(
                        self._signer, uuid=self._uuid, host=host, port=port, axon_hotkey=axon_hotkey
                    ),
                ) as response,
            ):
                answer = _read(response.status, response.content_type, await response.read())
        except aiohttp.ClientConnectorError:
            answer = Answer(503, "Service unavailable")
        except TimeoutError:
            answer = Answer(408, f"Request timeout after {TIMEOUT_SECONDS} seconds")
        except aiohttp.ClientError as error:
            answer = Answer(422, f"Failed to parse response: {type(error).__name__}")
        return replace(answer, seconds=time.perf_counter() - began)

    def _body(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": SYNAPSE_NAME,
            "timeout": TIMEOUT_SECONDS,
            "total_size": 0,
            "header_size": 0,
            "computed_body_hash": "",
            "success": False,
            "error_message": None,
            "rate_limited": False,
            "execution_status": "Pending",
            "finished_executions": [],
            **fields,
        }


def signed_headers(signer: Signer, *, uuid: str, host: str, port: int, axon_hotkey: Hotkey) -> dict[str, str]:
    """A dendrite's headers for one query, signed now: a nonce later than any before it."""
    nonce, hotkey = time.time_ns(), signer.hotkey
    message = f"{nonce}.{hotkey}.{axon_hotkey}.{uuid}.{EMPTY_BODY_HASH}"
    return {
        "name": SYNAPSE_NAME,
        "timeout": str(TIMEOUT_SECONDS),
        "bt_header_axon_ip": host,
        "bt_header_axon_port": str(port),
        "bt_header_axon_hotkey": axon_hotkey,
        "bt_header_dendrite_ip": "127.0.0.1",
        "bt_header_dendrite_version": str(VERSION),
        "bt_header_dendrite_nonce": str(nonce),
        "bt_header_dendrite_uuid": uuid,
        "bt_header_dendrite_hotkey": hotkey,
        "bt_header_dendrite_signature": "0x" + signer.sign(message.encode()).hex(),
        "bt_header_input_obj_execution_id": "IiI=",
        "bt_header_input_obj_shots": "MA==",
        "bt_header_input_obj_configuration_data": "e30=",
        "bt_header_input_obj_input_data_url": "IiI=",
        "bt_header_input_obj_last_circuit": "IiI=",
        "header_size": "464",
        "total_size": "7768",
        "computed_body_hash": EMPTY_BODY_HASH,
        "Content-Type": "application/json",
    }


def _read(status: int, content_type: str, body: bytes) -> Answer:
    """A dendrite's view of a reply: JSON or nothing, 200 or only its message."""
    try:
        document: Any = json.loads(body) if content_type == "application/json" else None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return Answer(422, "Failed to parse response")
    if status != 200:  # noqa: PLR2004 - the only status whose fields a dendrite takes over
        return Answer(status, str(document.get("message", "")))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType] - any JSON
    try:
        reply = _Reply.model_validate(document)
    except ValidationError:
        return Answer(422, "Failed to parse response")
    return Answer(
        status=200,
        message="Success",
        success=reply.success,
        error_message=reply.error_message,
        rate_limited=bool(reply.rate_limited),
        execution_status=reply.execution_status,
        last_circuit=reply.last_circuit,
        finished=reply.finished_executions,
    )
