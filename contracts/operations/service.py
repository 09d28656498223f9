"""The calls that ask for no API key: health and the documents."""

from typing import Final

from contracts.operations import parameters
from contracts.operations.shapes import HTML, Operation, Response, ResponseHeader, Tag
from contracts.representations import examples
from contracts.representations.pages import Liveness, Readiness

DOCS_PATH: Final = "/docs"
EVENTS_PAGE_PATH: Final = "/docs/events"
COLLECTION_PATH: Final = "/docs/collection.json"
OPENAPI_PATH: Final = "/openapi.json"
ASYNCAPI_PATH: Final = "/asyncapi.json"

_CACHED: Final = (ResponseHeader.ETAG, ResponseHeader.CACHE_CONTROL)
_UNCHANGED: Final = Response(304, "Your copy is current", headers=_CACHED)

_READ_LIVENESS: Final = Operation(
    operation_id="read_liveness",
    method="GET",
    path="/healthz",
    tag=Tag.HEALTH,
    summary="Ask whether the process lives",
    description="Touches no dependency: a failing one is no reason to restart this process.",
    scope=None,
    responses=(Response(200, "It lives", model=Liveness, example={"status": "live"}),),
)

_READ_READINESS: Final = Operation(
    operation_id="read_readiness",
    method="GET",
    path="/readyz",
    tag=Tag.HEALTH,
    summary="Ask whether the process can do its work",
    description=(
        "`ready`: every dependency is up. `degraded`: the broker or Redis is down, every call is "
        "still served. `not_ready`: the database is down, or the process is stopping."
    ),
    scope=None,
    responses=(
        Response(200, "Ready or degraded", model=Readiness, example=examples.READY),
        Response(503, "Not ready", model=Readiness, example=examples.NOT_READY),
    ),
)

_READ_DOCS_PAGE: Final = Operation(
    operation_id="read_docs_page",
    method="GET",
    path=DOCS_PATH,
    tag=Tag.DOCUMENTS,
    summary="Open this API as a page",
    description="The page that shows this document and lets you try each call.",
    scope=None,
    parameters=(parameters.IF_NONE_MATCH,),
    responses=(Response(200, "The page", media_type=HTML, headers=_CACHED), _UNCHANGED),
)

_READ_EVENTS_PAGE: Final = Operation(
    operation_id="read_events_page",
    method="GET",
    path=EVENTS_PAGE_PATH,
    tag=Tag.DOCUMENTS,
    summary="Open the messages and events as a page",
    description="The page that shows the AsyncAPI document; it needs no script.",
    scope=None,
    parameters=(parameters.IF_NONE_MATCH,),
    responses=(Response(200, "The page", media_type=HTML, headers=_CACHED), _UNCHANGED),
)

_READ_COLLECTION: Final = Operation(
    operation_id="read_collection",
    method="GET",
    path=COLLECTION_PATH,
    tag=Tag.DOCUMENTS,
    summary="Download every call as a collection",
    description=(
        "A collection of Postman's format 2.1, which Bruno imports too, with an example of each "
        "call. Set its variables `base_url` and `api_key`."
    ),
    scope=None,
    parameters=(parameters.IF_NONE_MATCH,),
    responses=(Response(200, "The collection", headers=_CACHED), _UNCHANGED),
)

_READ_OPENAPI_DOCUMENT: Final = Operation(
    operation_id="read_openapi_document",
    method="GET",
    path=OPENAPI_PATH,
    tag=Tag.DOCUMENTS,
    summary="Read the OpenAPI document",
    description="This document: OpenAPI 3.1.",
    scope=None,
    parameters=(parameters.IF_NONE_MATCH,),
    responses=(Response(200, "OpenAPI 3.1", headers=_CACHED), _UNCHANGED),
)

_READ_ASYNCAPI_DOCUMENT: Final = Operation(
    operation_id="read_asyncapi_document",
    method="GET",
    path=ASYNCAPI_PATH,
    tag=Tag.DOCUMENTS,
    summary="Read the AsyncAPI document",
    description="The messages of the broker: AsyncAPI 3.0.",
    scope=None,
    parameters=(parameters.IF_NONE_MATCH,),
    responses=(Response(200, "AsyncAPI 3.0", headers=_CACHED), _UNCHANGED),
)

SERVICE_OPERATIONS: Final = (
    _READ_LIVENESS,
    _READ_READINESS,
    _READ_DOCS_PAGE,
    _READ_EVENTS_PAGE,
    _READ_COLLECTION,
    _READ_OPENAPI_DOCUMENT,
    _READ_ASYNCAPI_DOCUMENT,
)
