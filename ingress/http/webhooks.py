"""The calls on webhooks."""

from typing import Final, Literal
from uuid import UUID

from aiohttp import web

from contracts.representations.transaction import format_moment
from contracts.representations.webhook import render_delivery, render_webhook
from contracts.requests.webhook import (
    recovery_start_of,
    webhook_change_of,
    webhook_request_of,
)
from contracts.webhooks import DeliveryStatus, WebhookTargets
from ingress.access import Guard
from ingress.http.middleware import Call, Handler, json_response, page_response
from ingress.parsing import uuid_of
from ingress.wallet_calls import wallet_not_found
from ingress.webhooks import WebhookStore

_FIRST_ID: Final = UUID(int=0)
_LAST_ID: Final = UUID(int=2**128 - 1)


class WebhookCalls:
    """Webhooks over HTTP."""

    def __init__(self, store: WebhookStore, *, guard: Guard, targets: WebhookTargets) -> None:
        """`targets`: which addresses may be named."""
        self._store = store
        self._guard = guard
        self._targets = targets

    def handlers(self) -> dict[str, Handler]:
        """Return the handler of each operation."""
        return {
            "create_webhook": self.create,
            "list_webhooks": self.list_page,
            "read_webhook": self.read,
            "change_webhook": self.change,
            "delete_webhook": self.delete,
            "rotate_webhook_secret": self.rotate,
            "list_webhook_deliveries": self.list_deliveries,
            "resend_webhook_delivery": self.resend,
            "recover_webhook": self.recover,
        }

    async def create(self, call: Call) -> web.Response:
        """POST /v1/webhooks."""
        wanted = webhook_request_of(await call.json(), self._targets)
        await self._check_wallets(call, wanted.wallet_ids)
        row, secret = await self._store.create(wanted, call.client, call.trail)
        return json_response(
            {**render_webhook(row), "secret": secret},
            status=201,
            headers={"Location": f"/v1/webhooks/{row['id']}"},
        )

    async def list_page(self, call: Call) -> web.Response:
        """GET /v1/webhooks."""
        query = call.query
        rows, following = await self._store.list_page(
            call.client,
            transaction_id=query.uuid("transaction_id"),
            after=query.id_position("webhooks") or _FIRST_ID,
            limit=query.limit(),
        )
        items = [render_webhook(row) for row in rows]
        return page_response(items, query.cursor("webhooks", following))

    async def read(self, call: Call) -> web.Response:
        """GET /v1/webhooks/{webhook_id}."""
        return json_response(render_webhook(await self._store.read(call.client, _id(call))))

    async def change(self, call: Call) -> web.Response:
        """PATCH /v1/webhooks/{webhook_id}."""
        webhook_id = _id(call)
        change = webhook_change_of(await call.json(), self._targets)
        await self._check_wallets(call, change.wallet_ids)
        row = await self._store.change(call.client, webhook_id, change, call.trail)
        return json_response(render_webhook(row))

    async def delete(self, call: Call) -> web.Response:
        """DELETE /v1/webhooks/{webhook_id}."""
        await self._store.delete(call.client, _id(call), call.trail)
        return web.Response(status=204)

    async def rotate(self, call: Call) -> web.Response:
        """POST /v1/webhooks/{webhook_id}/secret/rotate."""
        secret, until = await self._store.rotate(call.client, _id(call), call.trail)
        return json_response({"secret": secret, "previous_valid_until": format_moment(until)})

    async def list_deliveries(self, call: Call) -> web.Response:
        """GET /v1/webhooks/{webhook_id}/deliveries."""
        query, webhook_id = call.query, _id(call)
        listing = f"deliveries:{webhook_id}"
        rows, following = await self._store.list_deliveries(
            call.client,
            webhook_id,
            status=query.word("status", DeliveryStatus),
            transaction_id=query.uuid("transaction_id"),
            before=query.id_position(listing) or _LAST_ID,
            limit=query.limit(),
        )
        items = [render_delivery(row) for row in rows]
        return page_response(items, query.cursor(listing, following))

    async def resend(self, call: Call) -> web.Response:
        """POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend."""
        webhook_id, delivery_id = _id(call), _id(call, "delivery_id")
        row = await self._store.resend(call.client, webhook_id, delivery_id, call.trail)
        return json_response(render_delivery(row), status=202)

    async def recover(self, call: Call) -> web.Response:
        """POST /v1/webhooks/{webhook_id}/recover."""
        webhook_id = _id(call)
        since = recovery_start_of(await call.json())
        count = await self._store.recover(call.client, webhook_id, since, call.trail)
        return json_response({"deliveries": count}, status=202)

    async def _check_wallets(self, call: Call, wallet_ids: tuple[UUID, ...] | None) -> None:
        """Raise ContractError unless all of these wallets are the caller's."""
        for wallet_id in wallet_ids or ():
            if not await self._guard.is_theirs(call.client, wallet_id):
                raise wallet_not_found(wallet_id)


def _id(call: Call, name: Literal["webhook_id", "delivery_id"] = "webhook_id") -> UUID:
    return uuid_of(name, call.request.match_info[name])
