"""Real HTTP servers that take what the daemon sends out: webhook messages, and traces as a collector takes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from typing_extensions import override

from qcompute.local.service import LocalService


@dataclass(frozen=True)
class Received:
    """One POST."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.body)


class Receiver(LocalService):
    """Takes every POST and keeps it; faults of `LocalService` are answered instead."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[Received] = []

    @override
    def routes(self) -> list[web.RouteDef]:
        return [web.post("/{rest:.*}", self._take)]

    async def _take(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.path, headers, await request.read()))
        return web.Response()

    def spans(self) -> Iterator[tuple[dict[str, Any], Span]]:
        """What came as OTLP, decoded: each span with the attributes of its resource."""
        for one in self.received:
            for of_resource in ExportTraceServiceRequest.FromString(one.body).resource_spans:
                resource = attributes_of(of_resource.resource)
                for scope in of_resource.scope_spans:
                    yield from ((resource, span) for span in scope.spans)


def attributes_of(owner: Any) -> dict[str, Any]:
    """The attributes of a span or a resource, as plain values."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in owner.attributes}
