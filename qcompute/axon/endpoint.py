"""``POST /CircuitSynapse``: one request, checked in order, handed to the daemon, answered.

The order is part of the promise: the signature first, so that nobody unknown learns who is registered; then our own
window, permit, stake and rate; only then is anything parsed. A raw ASGI callable, because a validator's visit should
cost little more than its signature.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import orjson
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from qcompute import meters
from qcompute.axon import dendrite
from qcompute.axon.contract import Forward, Reply, Scheme, VerifiedRequest
from qcompute.axon.gate import Gate
from qcompute.axon.settings import AxonSettings
from qcompute.axon.visitors import Visitors
from qcompute.chain.btauth import verify_btauth
from qcompute.chain.keys import verify_signature
from qcompute.errors import NotAllowed, StoreError
from qcompute.faults import first_fault
from qcompute.miner.job import Nonce
from qcompute.protocol import SYNAPSE_NAME, CircuitSynapse, ExecutionData
from qcompute.units import Hotkey

_log = logging.getLogger(__name__)

BTAUTH_SCOPE: Final = "btauth/1"
_BTAUTH_HEADER: Final = b"x-bittensor-version"
_JSON: Final = (b"content-type", b"application/json")
_OK: Final = 200

HTTP_BAD_REQUEST: Final = 400
HTTP_TIMEOUT: Final = 408
HTTP_TOO_LARGE: Final = 413
HTTP_UNPROCESSABLE: Final = 422
HTTP_UNAVAILABLE: Final = 503


class BadRequest(NotAllowed):
    """The request cannot be read."""

    code = "bad_request"


@dataclass(frozen=True, slots=True)
class _Verified:
    """Who asks, and how the answer must look. ``headers`` is None for ``btauth/1``."""

    hotkey: Hotkey
    nonce: Nonce
    scheme: Scheme
    body: bytes = field(repr=False)
    headers: dendrite.DendriteHeaders | None


class CircuitEndpoint:
    """The route validators call."""

    def __init__(
        self,
        settings: AxonSettings,
        gate: Gate,
        forward: Forward,
        our_hotkey: Hotkey,
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.visitors = Visitors()
        self._settings = settings
        self._gate = gate
        self._forward = forward
        self._hotkey = our_hotkey
        self._now_ns = now_ns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST; never raises for anything a caller can send."""
        began = time.perf_counter()
        try:
            status, headers, body = await self._answer(scope, receive, began)
        except NotAllowed as refusal:
            status, headers, body = _refused(refusal.status, refusal.message, began)
        except StoreError as error:
            _log.error("a request could not be stored: %s", error, extra={"action": "intake"})
            status, headers, body = _refused(HTTP_UNAVAILABLE, "this miner's store is failing; try again", began)
        meters.axon_request(status, time.perf_counter() - began)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, scope: Scope, receive: Receive, began: float
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        headers: Mapping[bytes, bytes] = dict(scope["headers"])
        hotkey: Hotkey | None = None
        try:
            verified = await self._verified(headers, scope, receive)
            hotkey = verified.hotkey
            self.visitors.asked(hotkey)
            caller = self._gate.admit(hotkey, verified.scheme)
            body = verified.body if verified.headers is None else await self._body(headers, receive)
            synapse = parse_synapse(body)
            reply = await self._forward(VerifiedRequest(caller, verified.nonce, synapse))
        except NotAllowed as refusal:
            self.visitors.refused(hotkey, refusal.message)
            raise
        if not reply.success and reply.error_message:
            self.visitors.refused(hotkey, reply.error_message)
        return self._replied(verified, synapse, _without_bad_rows(reply), began)

    async def _verified(self, headers: Mapping[bytes, bytes], scope: Scope, receive: Receive) -> _Verified:
        if _BTAUTH_HEADER in headers:
            return await self._verified_btauth(headers, scope, receive)
        request = dendrite.read_headers(headers)
        dendrite.verify(request, self._hotkey, verify_signature)
        dendrite.check_fresh(
            request.nonce_ns,
            self._now_ns(),
            past_seconds=self._settings.freshness_seconds,
            ahead_seconds=self._settings.forward_skew_seconds,
        )
        nonce = Nonce(request.hotkey, request.uuid, request.nonce_ns)
        return _Verified(request.hotkey, nonce, Scheme.DENDRITE, b"", request)

    async def _verified_btauth(self, headers: Mapping[bytes, bytes], scope: Scope, receive: Receive) -> _Verified:
        """``btauth/1`` signs the body, so that is read first; its size and time are limited."""
        body = await self._body(headers, receive)
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        hotkey, nonce_ns = verify_btauth(
            {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()},
            body,
            path=f"{path}?{query}" if query else path,
            our_hotkey=self._hotkey,
            past_seconds=self._settings.freshness_seconds,
            ahead_seconds=self._settings.forward_skew_seconds,
            now_ns=self._now_ns(),
        )
        if not 0 <= nonce_ns < 1 << 63:
            raise BadRequest("Bad request: the nonce is not a nanosecond time", status=HTTP_BAD_REQUEST)
        nonce = Nonce(hotkey, BTAUTH_SCOPE, nonce_ns, strictly_growing=False)
        return _Verified(hotkey, nonce, Scheme.BTAUTH, body, None)

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        limit = self._settings.max_body_bytes
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(self._settings.body_timeout_seconds):
                return await _read(receive, limit)
        except TimeoutError:
            raise BadRequest("Request timeout: the body did not arrive in time", status=HTTP_TIMEOUT) from None

    def _replied(
        self, verified: _Verified, synapse: CircuitSynapse, reply: Reply, began: float
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        seconds = time.perf_counter() - began
        if verified.headers is None:
            body = orjson.dumps(dendrite.reply_document(synapse, reply))
            return _OK, [_JSON, _length(body)], body
        document = dendrite.dendrite_document(verified.headers, self._hotkey, synapse, reply, seconds)
        body = orjson.dumps(document)
        headers = dendrite.reply_headers(verified.headers, self._hotkey, synapse, seconds)
        return _OK, [_JSON, _length(body), *headers], body


def parse_synapse(body: bytes) -> CircuitSynapse:
    """The synapse in a request body.

    Raises:
        BadRequest: not JSON, or a required field is missing or of another type; the field is named, its value not.
    """
    try:
        return CircuitSynapse.model_validate_json(body)
    except ValidationError as error:
        fault = first_fault(error, whole="body")
        raise BadRequest(f"Bad request: {fault}", status=HTTP_UNPROCESSABLE) from None


async def _read(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("Bad request: the connection was closed", status=HTTP_BAD_REQUEST)
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _too_large(limit: int) -> BadRequest:
    return BadRequest(f"Request body is larger than {limit} bytes", status=HTTP_TOO_LARGE)


def _without_bad_rows(reply: Reply) -> Reply:
    """A dendrite drops a whole reply for one field it cannot read, so a row that is not valid is left out alone."""
    bad = [row for row in reply.finished if not _is_valid(row)]
    if not bad:
        return reply
    for row in bad:
        _log.error("a finished row is not valid and is left out", extra={"action": "bad_row", "row": row.execution_id})
    return Reply(
        reply.success,
        reply.last_circuit,
        reply.error_message,
        reply.rate_limited,
        reply.execution_status,
        [row for row in reply.finished if row not in bad],
    )


def _is_valid(row: ExecutionData) -> bool:
    try:
        orjson.dumps(row.execution_data)
        ExecutionData.model_validate(row.model_dump())
    except (ValidationError, TypeError, ValueError):
        return False
    return True


def _refused(status: int, message: str, began: float) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    body = orjson.dumps({"message": message})
    seconds = time.perf_counter() - began
    headers = [_JSON, _length(body), *dendrite.status_headers(status, message, seconds)]
    # An unread body must not be taken for the next request on this connection.
    return status, [*headers, (b"connection", b"close")], body


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


SYNAPSES: Final = [SYNAPSE_NAME]
"""The synapses this axon answers; named in its 404."""
