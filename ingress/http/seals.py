"""The calls on seals."""

from aiohttp import web

from contracts.problems import ContractError, ProblemCode
from contracts.representations.seal import render_seal
from ingress.http.middleware import Call, json_response
from ingress.parsing import SEQUENCE_BYTES
from ingress.reads.seals import SealStore


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
        position = query.position("seals", SEQUENCE_BYTES)
        rows, following = await self._store.list_page(
            before=None if position is None else int.from_bytes(position, "big"),
            limit=query.limit(),
        )
        cursor = (
            None
            if following is None
            else query.cursor("seals", following.to_bytes(SEQUENCE_BYTES, "big"))
        )
        return json_response({"items": [render_seal(row) for row in rows], "next_cursor": cursor})
