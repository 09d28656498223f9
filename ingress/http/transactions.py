"""The calls on transactions."""

from functools import partial
from typing import Final
from uuid import UUID

from aiohttp import web

from contracts.identifiers import first_id_at, id_of_reference
from contracts.operations.transactions import METADATA_SEARCHED_MAX, METADATA_WINDOW
from contracts.problems import ContractError, ProblemCode
from contracts.representations.processing import render_processing
from contracts.representations.transaction import Json, Row
from contracts.requests.parties import parties_of_row, wallets_of_row
from contracts.requests.transaction import (
    TransactionStatus,
    TransactionType,
    checked_key,
)
from contracts.scopes import Reach, Scope
from ingress.access import Theirs, holder_of, is_seen, not_theirs
from ingress.authentication import Client
from ingress.calls import (
    ReadCall,
    ReverseCall,
    Services,
    SubmitCall,
    not_found,
)
from ingress.http.middleware import Call, answer_of, json_response, page_response, response_of
from ingress.parsing import Query, uuid_of
from ingress.reads.transactions import MetadataMember, TransactionFilter
from ingress.submit.cancellation import Cancellations
from runtime.service.pagination import Window

_LAST_ID: Final = UUID(int=2**128 - 1)
_FIRST_ID: Final = UUID(int=0)


class TransactionCalls:
    """Submit, read and list transactions."""

    def __init__(self, services: Services, *, cancellations: Cancellations) -> None:
        self._services = services
        self._cancellations = cancellations
        self._store = services.store

    async def submit(self, call: Call) -> web.Response:
        """POST /v1/transactions."""
        header_key = call.idempotency_key
        body = await call.body()
        return response_of(
            await answer_of(
                call, self._services, partial(SubmitCall, body=body, header_key=header_key)
            )
        )

    async def reverse(self, call: Call) -> web.Response:
        """POST /v1/transactions/{transaction_id}/reverse."""
        transaction_id, header_key = _transaction_id(call), call.idempotency_key
        body = await call.body()
        make = partial(ReverseCall, transaction_id=transaction_id, body=body, header_key=header_key)
        return response_of(await answer_of(call, self._services, make))

    async def cancel(self, call: Call) -> web.Response:
        """POST /v1/transactions/{transaction_id}/cancel."""
        transaction_id, key = _transaction_id(call), checked_key(call.idempotency_key)
        if call.client.reach is not Reach.ALL:
            await self._judge_cancellation(call.client, transaction_id)
        is_new = await self._cancellations.cancel(
            transaction_id, submitter=call.client.name, key=key
        )
        views = await self._services.views(call.client, [transaction_id])
        headers = {} if is_new else {"Idempotency-Replayed": "true"}
        return json_response(views[transaction_id], headers=headers)

    async def read(self, call: Call) -> web.Response:
        """GET /v1/transactions/{transaction_id}."""
        transaction_id = call.request.match_info["transaction_id"]
        return response_of(
            await answer_of(call, self._services, partial(ReadCall, transaction_id=transaction_id))
        )

    async def read_processing(self, call: Call) -> web.Response:
        """GET /v1/transactions/{transaction_id}/processing."""
        transaction_id = _transaction_id(call)
        row, _ = await self._seen(call.client, transaction_id)
        if call.client.reach is not Reach.ALL and row["submitter"] != call.client.name:
            # Its key and its request are the submitter's own.
            raise not_found(transaction_id)
        waiting = await self._store.read_waiting(transaction_id, submitter=row["submitter"])
        return json_response(render_processing(row, waiting))

    async def list_page(self, call: Call) -> web.Response:
        """GET /v1/transactions."""
        query = call.query
        limit = query.limit()
        position = query.id_position("transactions")
        wanted, before = _filter_of(call)
        before = position or before
        only = await self._named(call)
        if only is None:
            _check_bounds(query, wanted)
            window = await self._page(call.client, wanted, before, limit)
        else:
            having = await self._store.having(wanted.metadata, only)
            window = Window([one for one in only if one in having], None)
        views = await self._services.views(call.client, window.matches, is_listed=only is None)
        items = [views[one] for one in window.matches if one in views]
        if only is not None:
            items = [item for item in items if _passes(item, wanted, before)]
        return page_response(items, query.cursor("transactions", window.next_start))

    async def _page(
        self, client: Client, wanted: TransactionFilter, before: UUID, limit: int
    ) -> Window[UUID]:
        """Return the ids of a page of what a client sees."""
        if client.reach is Reach.ALL:
            return await self._store.list_page(wanted, before=before, limit=limit)
        if wanted.wallet_id is None:
            return await self._store.list_seen(
                wanted, holder_of(client), before=before, limit=limit
            )
        # A wallet that is another's has as few transactions as one that there is not.
        is_theirs = await self._services.guard.is_theirs(client, wanted.wallet_id)
        if not is_theirs:
            return Window([], None)
        return await self._store.list_page(wanted, before=before, limit=limit)

    async def _judge_cancellation(self, client: Client, transaction_id: UUID) -> None:
        """Raise ContractError unless the wallets that a transaction needs are a client's.

        With a member of an atomic batch go the others, so that is for whoever submitted them.
        """
        row, theirs = await self._seen(client, transaction_id)
        if row["batch_id"] is not None and row["submitter"] != client.name:
            raise not_theirs()
        parties = parties_of_row(row)._replace(made_by=row["submitter"])
        self._services.guard.judge(client, parties, theirs)

    async def _seen(self, client: Client, transaction_id: UUID) -> tuple[Row, Theirs]:
        """Return the row of a transaction, and which of its wallets are a client's.

        Raises ContractError for one that the client does not see, as for one that there is not.
        """
        rows = await self._store.rows([transaction_id])
        row = rows.get(transaction_id)
        if client.reach is Reach.ALL:
            if row is None:
                raise not_found(transaction_id)
            return row, frozenset(wallets_of_row(row))
        ids = {transaction_id} if row is None else wallets_of_row(row)
        theirs: Theirs = await self._services.guard.theirs(client, ids)
        if row is None or not is_seen(client, row, theirs):
            raise not_found(transaction_id)
        return row, theirs

    async def _named(self, call: Call) -> list[UUID] | None:
        """Return the ids that a key or a reference names; None when neither is given."""
        key = call.query.text("idempotency_key")
        reference = call.query.text("reference")
        submitter = call.query.text("submitter")
        if submitter is not None:
            call.client.require(Scope.OPERATIONS_READ)
            if key is None:
                raise ContractError(
                    ProblemCode.INVALID_PARAMETER, "submitter goes with idempotency_key"
                )
        if key is None and reference is None:
            return None
        named: set[UUID | None] = set()
        if key is not None:
            submitter = submitter or call.client.name
            named.add(await self._store.find(submitter=submitter, idempotency_key=_searched(key)))
        if reference is not None:
            named.add(_id_of(reference))
        return [one for one in named if one is not None] if len(named) == 1 else []


def _filter_of(call: Call) -> tuple[TransactionFilter, UUID]:
    """Return a list's filter, and the id below which it starts."""
    query = call.query
    start, end = query.moment("from"), query.moment("to")
    wanted = TransactionFilter(
        wallet_id=query.uuid("wallet_id"),
        status=query.word("status", TransactionStatus),
        type=query.word("type", TransactionType),
        first_id=_FIRST_ID if start is None else first_id_at(start),
        metadata=_member_of(query.text("metadata")),
    )
    return wanted, _LAST_ID if end is None else first_id_at(end)


def _member_of(text: str | None) -> MetadataMember | None:
    """Return what `name:value` names; the name ends at the first colon. Raises ContractError."""
    if text is None:
        return None
    name, colon, value = text.partition(":")
    if not (name and colon) or len(text) > METADATA_SEARCHED_MAX:
        raise ContractError(
            ProblemCode.INVALID_PARAMETER,
            "metadata is a name, a colon and a value, such as order:4711, of at most "
            f"{METADATA_SEARCHED_MAX} characters",
        )
    return MetadataMember(name, value)


def _check_bounds(query: Query, wanted: TransactionFilter) -> None:
    """Raise ContractError for a search by metadata without a bound: no index serves it."""
    if wanted.metadata is None or wanted.wallet_id is not None:
        return
    start, end = query.moment("from"), query.moment("to")
    if start is None or end is None or end - start > METADATA_WINDOW:
        raise ContractError(
            ProblemCode.INVALID_PARAMETER,
            "metadata goes with wallet_id, or with from and to that are at most "
            f"{METADATA_WINDOW.days} days apart",
        )


def _passes(item: Json, wanted: TransactionFilter, before: UUID) -> bool:
    """Whether a transaction found by its name also fits the other filters."""
    wallets = {item["source_wallet_id"], item["destination_wallet_id"]}
    wallets |= {leg["wallet_id"] for leg in item["legs"] or ()}
    return (
        (wanted.wallet_id is None or str(wanted.wallet_id) in wallets)
        and wanted.status in (None, item["status"])
        and wanted.type in (None, item["type"])
        and wanted.first_id <= UUID(item["id"]) < before
    )


def _searched(key: str) -> str:
    try:
        return checked_key(key)
    except ContractError as error:
        raise ContractError(
            ProblemCode.INVALID_PARAMETER, f"idempotency_key: {error.detail}"
        ) from None


def _transaction_id(call: Call) -> UUID:
    return uuid_of("transaction_id", call.request.match_info["transaction_id"])


def _id_of(reference: str) -> UUID | None:
    try:
        return id_of_reference(reference)
    except ValueError as error:
        raise ContractError(ProblemCode.INVALID_PARAMETER, f"reference: {error}") from None
