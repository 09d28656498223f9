"""Problems: what a failure is to the client (RFC 9457)."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from contracts.identifiers import trace_id_of
from contracts.operations import BODY_BYTES_MAX
from contracts.problems import PROBLEMS, ContractError, ProblemCode
from ingress.calls import RETRY, Answer, Names
from ingress.submit.admission import backlog_full
from runtime.postgres.pool import UNREACHABLE
from runtime.service.batcher import BatcherFullError
from runtime.service.malformed import LineBound

log = structlog.get_logger()

_lines: Final = LineBound()


def problem_answer(error: Exception, *, path: str, names: Names) -> Answer:
    """Return the problem that an error is to the client who asked for `path`; log ours."""
    found = problem_of(error)
    if found.code in {ProblemCode.INTERNAL_ERROR, ProblemCode.DATABASE_UNAVAILABLE}:
        _log_failure(error, found, path=path, names=names)
    body = problem_body(found, instance=path, names=names)
    return Answer(
        status=body["status"],
        body=orjson.dumps(body),
        headers=_headers(found),
        content_type="application/problem+json",
    )


def _log_failure(error: Exception, found: ContractError, *, path: str, names: Names) -> None:
    """Tell of a failure of ours; a few a second, since nobody needs a key to cause one."""
    traceparent, request_id = names
    left_out = _lines.take()
    if left_out is not None:
        log.error(
            "request_failed",
            request_id=request_id,
            trace_id=trace_id_of(traceparent),
            path=path,
            error=repr(error),
            left_out=left_out,
            exc_info=error if found.code is ProblemCode.INTERNAL_ERROR else None,
        )


def problem_of(error: Exception) -> ContractError:
    """Return an error as one with a code."""
    if isinstance(error, ContractError):
        return error
    if isinstance(error, BatcherFullError):
        return backlog_full()
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return ContractError(
            ProblemCode.BODY_TOO_LARGE, f"a body has at most {BODY_BYTES_MAX} bytes"
        )
    if isinstance(error, web.HTTPMethodNotAllowed):
        return ContractError(
            ProblemCode.METHOD_NOT_ALLOWED, f"allowed: {', '.join(sorted(error.allowed_methods))}"
        )
    if isinstance(error, web.HTTPNotFound):
        return ContractError(ProblemCode.NOT_FOUND, "see /docs for what there is")
    if isinstance(error, web.HTTPExpectationFailed):
        return ContractError(ProblemCode.MALFORMED_REQUEST, "Expect can only be 100-continue")
    if isinstance(error, (web.RequestPayloadError, ContentEncodingError)):
        return ContractError(ProblemCode.MALFORMED_JSON, "the body is not encoded as it says")
    if isinstance(error, UNREACHABLE):
        return ContractError(
            ProblemCode.DATABASE_UNAVAILABLE, "nothing was lost; send it again after Retry-After"
        )
    return ContractError(ProblemCode.INTERNAL_ERROR, "the request id names it in our logs")


def problem_body(error: ContractError, *, instance: str, names: Names) -> dict[str, Any]:
    """Return the problem's JSON."""
    kind = PROBLEMS[error.code]
    traceparent, request_id = names
    return {
        "type": f"/docs#problem-{error.code.value.replace('_', '-')}",
        "title": kind.title,
        "status": kind.status,
        "detail": error.detail.encode("utf-8", "replace").decode(),
        "instance": instance,
        "code": error.code.value,
        "request_id": request_id,
        "trace_id": trace_id_of(traceparent),
        "errors": [{"pointer": one.pointer, "detail": one.detail} for one in error.errors],
    }


def _headers(error: ContractError) -> Mapping[str, str]:
    if error.headers:
        return error.headers
    status = PROBLEMS[error.code].status
    if status == web.HTTPServiceUnavailable.status_code:
        return RETRY
    if status == web.HTTPUnauthorized.status_code:
        return {"WWW-Authenticate": 'Bearer realm="ackledger"'}
    return {}
