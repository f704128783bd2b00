"""The axon as an OpenAPI document, for a fuzzer: what a request must look like, and every answer that may come."""

from __future__ import annotations

from typing import Any, Final

_MESSAGE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["message"],
    "properties": {"message": {"type": "string", "minLength": 1, "maxLength": 400}},
    "additionalProperties": False,
}
_ROW: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["execution_id", "shots", "upload_data_id", "execution_data", "status", "errorMessage"],
    "properties": {
        "execution_id": {"type": "string"},
        "shots": {"type": "integer"},
        "upload_data_id": {"type": ["string", "null"]},
        "execution_data": {"type": ["object", "null"]},
        "status": {"enum": ["Completed", "Failed"]},
        "errorMessage": {"type": ["string", "null"]},
    },
}
_SYNAPSE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["execution_id", "shots", "configuration_data", "input_data_url", "last_circuit"],
    "properties": {
        "execution_id": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,40}$"},
        "shots": {"type": "integer", "minimum": 1, "maximum": 100000},
        "configuration_data": {"type": "object", "additionalProperties": {"type": ["string", "boolean", "null"]}},
        "input_data_url": {"type": "string", "maxLength": 8192, "pattern": "^https://192\\.0\\.2\\.1/[a-z]{0,20}$"},
        "last_circuit": {"type": "string", "maxLength": 256},
        "timeout": {"type": "number", "minimum": 0, "maximum": 3600},
        "total_size": {"type": "integer", "minimum": 0, "maximum": 2**32},
        "header_size": {"type": "integer", "minimum": 0, "maximum": 2**32},
    },
}
_REPLY: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["name", *_SYNAPSE["required"], "success", "error_message", "rate_limited", "finished_executions"],
    "properties": {
        "name": {"const": "CircuitSynapse"},
        "success": {"type": "boolean"},
        "error_message": {"type": ["string", "null"]},
        "last_circuit": {"type": "string"},
        "rate_limited": {"type": "boolean"},
        "execution_status": {"const": "Pending"},
        "finished_executions": {"type": "array", "maxItems": 100, "items": _ROW},
    },
}
_HEALTH: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["status", "version", "accepting_jobs", "metagraph_known"],
    "properties": {
        "status": {"const": "ok"},
        "version": {"type": "string"},
        "accepting_jobs": {"type": "boolean"},
        "metagraph_known": {"type": "boolean"},
    },
    "additionalProperties": False,
}
_SIGNED: Final = (
    "bt_header_dendrite_nonce",
    "bt_header_dendrite_uuid",
    "bt_header_dendrite_hotkey",
    "bt_header_dendrite_signature",
    "computed_body_hash",
)


def axon_document(*, signed: bool) -> dict[str, Any]:
    """The axon for callers who sign (every answer) or do not (refusals alone, and headers drawn by the fuzzer)."""
    answers = {str(status): _MESSAGE for status in (400, 401, 413, 422, 431)} | ({"200": _REPLY} if signed else {})
    synapse: dict[str, Any] = {
        "operationId": "circuit_synapse",
        "requestBody": {"required": True, "content": {"application/json": {"schema": _SYNAPSE}}},
        "responses": _responses(answers),
    }
    if not signed:
        synapse["parameters"] = [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in _SIGNED
        ]
    return {
        "openapi": "3.1.0",
        "info": {"title": "axon", "version": "1"},
        "paths": {
            "/CircuitSynapse": {"post": synapse},
            "/health": {"get": {"operationId": "health", "responses": _responses({"200": _HEALTH})}},
        },
    }


def _responses(answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        status: {"description": status, "content": {"application/json": {"schema": schema}}}
        for status, schema in answers.items()
    }
