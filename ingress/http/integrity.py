"""The calls on the books' integrity."""

from aiohttp import web

from contracts.problems import ContractError, ProblemCode
from contracts.representations.integrity import (
    render_finding,
    render_integrity,
    render_verification,
)
from ingress.http.middleware import Call, Handler, json_response
from ingress.integrity import IntegrityStore

_LISTING = "findings"


class IntegrityCalls:
    """Read what was found, and have the whole book verified."""

    def __init__(self, store: IntegrityStore) -> None:
        self._store = store

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation."""
        return {
            "read_integrity": self.read,
            "list_integrity_findings": self.list_findings,
            "request_verification": self.request,
        }

    async def read(self, _: Call) -> web.Response:
        """GET /v1/integrity."""
        return json_response(render_integrity(*await self._store.read()))

    async def list_findings(self, call: Call) -> web.Response:
        """GET /v1/integrity/findings."""
        query = call.query
        after = query.names(_LISTING, 2)
        check, subject = after or ("", "")
        rows, following = await self._store.list_findings(
            after=(check, subject), limit=query.limit()
        )
        cursor = None if following is None else query.cursor_of_names(_LISTING, following)
        return json_response(
            {"items": [render_finding(row) for row in rows], "next_cursor": cursor}
        )

    async def request(self, call: Call) -> web.Response:
        """POST /v1/integrity/verifications."""
        if call.request.can_read_body:
            raise ContractError(ProblemCode.INVALID_PARAMETER, "this call takes no body")
        row, is_new = await self._store.request(call.trail)
        return json_response(render_verification(row), status=202 if is_new else 200)
