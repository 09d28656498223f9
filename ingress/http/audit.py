"""The call on the audit log."""

from uuid import UUID

from aiohttp import web

from contracts.representations.audit import render_audit_record
from ingress.http.middleware import Call, json_response
from ingress.parsing import ID_BYTES
from ingress.reads.audit import LAST_ID, AuditFilter, AuditStore


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
        position = query.position("audit", ID_BYTES)
        rows, following = await self._store.list_page(
            wanted,
            before=LAST_ID if position is None else UUID(bytes=position),
            limit=query.limit(),
        )
        cursor = None if following is None else query.cursor("audit", following.bytes)
        return json_response(
            {"items": [render_audit_record(row) for row in rows], "next_cursor": cursor}
        )
