"""The page of ``docs/reference`` about the operator port, written from its own OpenAPI document."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import httpx

from qcompute.console.dashboard.pages import PREFIX
from qcompute.console.port import SESSION_PATH
from qcompute.ledger.memory import MemoryLedger
from qcompute.miner.operator import operator_app

_HEAD: Final = """\
<!-- Written by `make docs` from the code; change it there. -->

# The operator port

`operator.host` and `operator.port`, `http://127.0.0.1:8092` by default; where a running daemon serves it stands in
`PATH.port` beside the ledger. With `operator.token` set every request needs `Authorization: Bearer TOKEN`, but those to
the sign-in. `GET /openapi.json` is this page for programs. A body is JSON unless it says otherwise, and an error's is
`{"message": "…"}`. What validators speak is in [the wire](wire.md).

| request | what | answers |
|---|---|---|
"""

_BESIDE: Final = (
    (f"`{PREFIX}/`", "The dashboard, for a browser; see [the dashboard](../how-to/dashboard.md)", "HTML"),
    ("`GET /metrics`", "For Prometheus; see [metrics](metrics.md)", "200: text or OpenMetrics"),
    (
        f"`POST {SESSION_PATH}`",
        'Begins a browser\'s session: `{"token": "…"}`',
        "204: a cookie; 401: not the token; 429: too many wrong ones, wait a minute",
    ),
    (f"`DELETE {SESSION_PATH}`", "Ends it", "204"),
)


def http_page() -> str:
    """``docs/reference/http.md``."""
    document = asyncio.run(_document())
    rows: list[str] = []
    for path, methods in sorted(document["paths"].items()):
        for method, said in methods.items():
            answers = {status: _model(answer) for status, answer in said["responses"].items()}
            told = "; ".join(f"{status}: [{name}](#{name.lower()})" for status, name in answers.items())
            rows.append(f"| `{method.upper()} {path}` | {said['summary']} | {told} |\n")
    rows += [f"| {' | '.join(row)} |\n" for row in _BESIDE]
    schemas: Mapping[str, Any] = document["components"]["schemas"]
    return _HEAD + "".join(rows) + "".join(_table(name, schemas[name]) for name in sorted(schemas))


async def _document() -> dict[str, Any]:
    """As the daemon serves it."""

    async def health() -> dict[str, Any]:
        return {}

    app = operator_app(MemoryLedger(), health)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://operator") as client:
        return (await client.get("/openapi.json")).json()


def _model(answer: Mapping[str, Any]) -> str:
    return answer["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[1]


def _table(name: str, schema: Mapping[str, Any]) -> str:
    about = " ".join(schema.get("description", "").split())
    if "enum" in schema:
        return f"\n## {name}\n\n{about} {_type(schema)}\n"
    required = set(schema.get("required", ()))
    rows = [
        f"| `{field}` | {_type(one)} | {'always' if field in required else 'when known'} |\n"
        for field, one in schema.get("properties", {}).items()
    ]
    return f"\n## {name}\n\n{about}\n\n| field | type | there |\n|---|---|---|\n{''.join(rows)}"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[1]
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " ".join(f"`{one}`" for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return schema.get("format") or schema.get("type") or "any"
