"""The web application: every operation of the contract gets its handler, or the start fails."""

from collections.abc import Awaitable, Callable, Collection, Mapping

from aiohttp import web

from contracts.operations import BODY_BYTES_MAX, OPERATIONS
from ingress.http.assets import list_assets
from ingress.http.batches import BatchCalls
from ingress.http.dead_letters import DeadLetterCalls
from ingress.http.documentation import add_documentation, load_documentation
from ingress.http.events import EventCalls
from ingress.http.middleware import (
    Gate,
    Handler,
    PlainHandler,
    naming,
    sign_stream,
)
from ingress.http.people import SignInCalls, UserCalls
from ingress.http.reviews import ReviewCalls
from ingress.http.shell import cross_origin, share
from ingress.http.trail import AuditCalls, IntegrityCalls, SealCalls
from ingress.http.transactions import TransactionCalls
from ingress.http.wallets import HoldCalls, WalletCalls
from ingress.http.webhooks import WebhookCalls
from runtime.service.status_server import Readiness, answer_readiness

Signal = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


def build_application(
    *,
    gate: Gate,
    wallets: WalletCalls,
    holds: HoldCalls,
    transactions: TransactionCalls,
    batches: BatchCalls,
    events: EventCalls,
    webhooks: WebhookCalls,
    seals: SealCalls,
    integrity: IntegrityCalls,
    audit: AuditCalls,
    dead_letters: DeadLetterCalls,
    sign_in: SignInCalls,
    users: UserCalls,
    reviews: ReviewCalls,
    readiness: Readiness,
    cors_origins: Collection[str] = (),
) -> web.Application:
    """Return the application that serves OPERATIONS; `cors_origins`: whose pages may call."""
    middlewares = [cross_origin(cors_origins)] if cors_origins else []
    app = web.Application(
        client_max_size=BODY_BYTES_MAX, middlewares=[*middlewares, naming(gate.traces)]
    )
    app.on_response_prepare.append(sign_stream)
    if cors_origins:
        app.on_response_prepare.append(_shared_stream(cors_origins))
    guarded = {
        **_money_handlers(wallets, holds, transactions, batches),
        **_trail_handlers(seals, integrity, audit),
        **_dead_letter_handlers(dead_letters),
        **_review_handlers(reviews),
        **sign_in.guarded_handlers(),
        **users.guarded_handlers(),
        **webhooks.handlers(),
        "follow_events": events.follow,
    }
    opened = sign_in.open_handlers()
    plain = {**_plain_handlers(readiness), "read_token_keys": sign_in.read_keys}
    for operation in OPERATIONS:
        name = operation.operation_id
        if operation.scope is not None:
            handler = gate.guarded(operation, guarded[name])
        elif name in opened:
            handler = gate.open(operation, opened[name])
        else:
            handler = gate.observed(name, plain[name])
        app.router.add_route(operation.method, operation.path, handler)
    add_documentation(app)
    return app


def _shared_stream(origins: Collection[str]) -> Signal:
    async def share_stream(request: web.Request, response: web.StreamResponse) -> None:
        if not isinstance(response, web.Response):
            share(request, response, origins)

    return share_stream


def _money_handlers(
    wallets: WalletCalls, holds: HoldCalls, transactions: TransactionCalls, batches: BatchCalls
) -> Mapping[str, Handler]:
    return {
        "create_wallet": wallets.create,
        "read_wallet": wallets.read,
        "list_wallets": wallets.list_page,
        "change_wallet": wallets.change,
        "delete_wallet": wallets.delete,
        "list_wallet_entries": wallets.list_entries,
        "list_wallet_holds": holds.list_page,
        "read_wallet_balance": wallets.read_balance,
        "submit_transaction": transactions.submit,
        "submit_transaction_batch": batches.submit,
        "preview_transactions": batches.preview,
        "reverse_transaction": transactions.reverse,
        "cancel_transaction": transactions.cancel,
        "read_transaction": transactions.read,
        "read_transaction_processing": transactions.read_processing,
        "list_transactions": transactions.list_page,
        "list_assets": list_assets,
    }


def _trail_handlers(
    seals: SealCalls, integrity: IntegrityCalls, audit: AuditCalls
) -> Mapping[str, Handler]:
    return {
        **integrity.handlers(),
        "list_seals": seals.list_page,
        "read_latest_seal": seals.read_latest,
        "list_audit_records": audit.list_page,
    }


def _review_handlers(reviews: ReviewCalls) -> Mapping[str, Handler]:
    return {
        "list_reviews": reviews.list_page,
        "approve_review": reviews.approve,
        "refuse_review": reviews.refuse,
    }


def _dead_letter_handlers(dead_letters: DeadLetterCalls) -> Mapping[str, Handler]:
    return {
        "list_dead_letters": dead_letters.list_page,
        "summarize_dead_letters": dead_letters.summarize,
        "group_dead_letters": dead_letters.group,
        "read_dead_letter": dead_letters.read,
        "replay_dead_letter": dead_letters.replay,
        "discard_dead_letter": dead_letters.discard,
        "replay_dead_letters": dead_letters.replay_many,
        "discard_dead_letters": dead_letters.discard_many,
    }


def _plain_handlers(readiness: Readiness) -> Mapping[str, PlainHandler]:
    async def read_liveness(_: web.Request) -> web.Response:
        return web.Response(body=b'{"status":"live"}', content_type="application/json")

    async def read_readiness(_: web.Request) -> web.Response:
        answer = answer_readiness(await readiness.read())
        return web.Response(
            body=answer.body, status=answer.status, content_type=answer.content_type
        )

    return {
        "read_liveness": read_liveness,
        "read_readiness": read_readiness,
        **load_documentation().handlers,
    }
