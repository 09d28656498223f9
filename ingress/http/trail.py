"""The calls on the trail: seals, the books' integrity, and the audit log."""

from aiohttp import web

from contracts.problems import ContractError, ProblemCode
from contracts.representations.trail import (
    render_audit_record,
    render_finding,
    render_integrity,
    render_seal,
    render_verification,
)
from ingress.http.middleware import Call, Handler, json_response, page_response
from ingress.reads.trail import LAST_ID, AuditFilter, AuditStore, IntegrityStore, SealStore

_LISTING = "findings"


class SealCalls:
    """Read the chain of seals."""

    def __init__(self, store: SealStore) -> None:
        self._store = store

    async def read_latest(self, _: Call) -> web.Response:
        """GET /v1/seals/latest."""
        rows, _following = await self._store.list_page(before=None, limit=1)
        if not rows:
            raise ContractError(ProblemCode.SEAL_NOT_FOUND, "nothing is sealed yet")
        return json_response(render_seal(rows[0]))

    async def list_page(self, call: Call) -> web.Response:
        """GET /v1/seals."""
        query = call.query
        rows, following = await self._store.list_page(
            before=query.sequence_position("seals"), limit=query.limit()
        )
        items = [render_seal(row) for row in rows]
        return page_response(items, query.cursor("seals", following))


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
        items = [render_finding(row) for row in rows]
        return page_response(items, query.cursor(_LISTING, following))

    async def request(self, call: Call) -> web.Response:
        """POST /v1/integrity/verifications."""
        if call.request.can_read_body:
            raise ContractError(ProblemCode.INVALID_PARAMETER, "this call takes no body")
        row, is_new = await self._store.request(call.trail)
        return json_response(render_verification(row), status=202 if is_new else 200)


class AuditCalls:
    """Read the audit log."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store

    async def list_page(self, call: Call) -> web.Response:
        """GET /v1/audit."""
        query = call.query
        wanted = AuditFilter(
            actor=query.text("actor"),
            action=query.text("action"),
            subject=query.text("subject"),
            start=query.moment("from"),
            end=query.moment("to"),
        )
        rows, following = await self._store.list_page(
            wanted, before=query.id_position("audit") or LAST_ID, limit=query.limit()
        )
        items = [render_audit_record(row) for row in rows]
        return page_response(items, query.cursor("audit", following))
