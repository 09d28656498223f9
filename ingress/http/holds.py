"""The call that lists a wallet's holds."""

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from aiohttp import web

from contracts.representations.wallet import render_wallet, render_wallet_hold
from ingress.access import Guard
from ingress.http.middleware import Call, json_response
from ingress.http.wallets import wallet_not_found
from ingress.parsing import ID_BYTES, cursor_error, uuid_of
from ingress.reads.holds import HoldPosition, HoldStore
from ledger.words import HoldStatus

_MOMENT_BYTES: Final = 8
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class HoldCalls:
    """Holds over HTTP."""

    def __init__(self, store: HoldStore, *, guard: Guard) -> None:
        self._store = store
        self._guard = guard

    async def list_page(self, call: Call) -> web.Response:
        """GET /v1/wallets/{wallet_id}/holds."""
        query = call.query
        wallet_id = uuid_of("wallet_id", call.request.match_info["wallet_id"])
        status = query.word("status", HoldStatus)
        listing = f"holds:{wallet_id}"
        size = ID_BYTES + (_MOMENT_BYTES if status is HoldStatus.OPEN else 0)
        position = query.position(listing, size)
        limit = query.limit()
        if not await self._guard.is_theirs(call.client, wallet_id):
            raise wallet_not_found(wallet_id)
        page = await self._store.read_page(
            wallet_id,
            status=status,
            position=None if position is None else _position_of(position),
            limit=limit,
        )
        if page is None:
            raise wallet_not_found(wallet_id)
        following = page.next_position
        cursor = None if following is None else query.cursor(listing, _bytes_of(following))
        return json_response(
            {
                "wallet": render_wallet(page.wallet),
                "items": [render_wallet_hold(row) for row in page.holds],
                "next_cursor": cursor,
            }
        )


def _bytes_of(position: HoldPosition) -> bytes:
    """A position in a cursor: the id, and where it counts the microseconds since 1970."""
    if position.expires_at is None:
        return position.transaction_id.bytes
    micros = (position.expires_at - _EPOCH) // _MICROSECOND
    return position.transaction_id.bytes + micros.to_bytes(_MOMENT_BYTES, "big")


def _position_of(position: bytes) -> HoldPosition:
    transaction_id, micros = UUID(bytes=position[:ID_BYTES]), position[ID_BYTES:]
    if not micros:
        return HoldPosition(transaction_id)
    try:
        expires_at = _EPOCH + int.from_bytes(micros, "big") * _MICROSECOND
    except OverflowError:
        raise cursor_error() from None
    return HoldPosition(transaction_id, expires_at)
