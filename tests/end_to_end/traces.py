"""A receiver of spans over OTLP/HTTP, as a collector has one."""

import asyncio
import gzip
from typing import Any, Final, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_PROTOBUF: Final = "application/x-protobuf"


class Received:
    """A span, and the process that sent it."""

    def __init__(self, span: Span, service: str) -> None:
        self.span = span
        self.service = service
        self.trace_id = span.trace_id.hex()
        self.span_id = span.span_id.hex()
        self.parent_id = span.parent_span_id.hex()
        self.attributes = values_of(span.attributes)
        self.linked_traces = [link.trace_id.hex() for link in span.links]


def values_of(attributes: Any) -> dict[str, Any]:
    """Return attributes by name."""
    return {one.key: _value_of(one) for one in attributes}


def _value_of(attribute: KeyValue) -> Any:
    kind = attribute.value.WhichOneof("value")
    return None if kind is None else getattr(attribute.value, kind)


class TraceReceiver:
    """Keeps all spans that are sent to /v1/traces."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.url = ""
        self._changed = asyncio.Condition()
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def of_trace(self, trace_id: str, count: int) -> list[Received]:
        """Return the spans of a trace, as soon as there are so many, in the order of beginning."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self._of_trace(trace_id)) >= count)
        return sorted(self._of_trace(trace_id), key=lambda one: one.span.start_time_unix_nano)

    def _of_trace(self, trace_id: str) -> list[Received]:
        return [one for one in self.spans if one.trace_id == trace_id]

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        export = ExportTraceServiceRequest.FromString(body)
        for resource in export.resource_spans:
            service = values_of(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [Received(span, service) for span in scope.spans]
        async with self._changed:
            self._changed.notify_all()
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type=_PROTOBUF)
