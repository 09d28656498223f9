"""Wallets over HTTP, with their entries and their holds."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg
from aiohttp import web

from contracts.money import exponent_of, format_minor
from contracts.problems import ContractError, ProblemCode
from contracts.representations.transaction import format_moment
from contracts.representations.wallet import render_wallet, render_wallet_entry, render_wallet_hold
from contracts.requests.transaction import TransactionType, checked_key
from contracts.requests.wallet import (
    RequestedKind,
    WalletChange,
    WalletKind,
    WalletStatus,
    overdraft_minor,
    unlimited_overdraft,
    wallet_change_of,
    wallet_request_of,
)
from contracts.scopes import Reach, Role
from ingress.access import Guard, check_change, check_deletion, customers_wallet, holder_of
from ingress.authentication import Client
from ingress.calls import Services
from ingress.http.middleware import Call, answer_of, json_response, page_response, response_of
from ingress.parsing import ID_BYTES, TagCondition, cursor_error, uuid_of
from ingress.reads.wallets import ALL_ENTRIES, EntryFilter, HoldPosition, HoldStore, WalletFilter
from ingress.wallet_calls import ReadEntriesCall, ReadWalletCall, wallet_answer, wallet_not_found
from ledger.words import HoldStatus
from runtime.postgres.audit import note_act
from runtime.postgres.pool import Connection

_FIRST_ID: Final = UUID(int=0)
_MOMENT_BYTES: Final = 8
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class WalletCalls:
    """Create, read, list, change and delete wallets, and read their histories."""

    def __init__(self, services: Services, *, per_customer_max: int) -> None:
        """`per_customer_max`: open wallets in one currency that customers may make for themselves.

        Systems make as many as they like.
        """
        self._services = services
        self._store = services.wallets
        self._guard = services.guard
        self._per_customer_max = per_customer_max

    async def create(self, call: Call) -> web.Response:
        """POST /v1/wallets."""
        key = call.idempotency_key
        wanted = customers_wallet(call.client, wallet_request_of(await call.json()))
        is_customer = call.client.role is Role.CUSTOMER
        created = await self._store.create(
            wanted,
            submitter=call.client.name,
            idempotency_key=None if key is None else checked_key(key),
            per_owner_max=self._per_customer_max if is_customer else None,
        )
        if not created.is_same:
            raise ContractError(
                ProblemCode.IDEMPOTENCY_KEY_REUSED,
                f"the key '{key}' stands for a wallet with other content",
            )
        headers = {"Location": f"/v1/wallets/{created.row['id']}"}
        if not created.is_new:
            headers["Idempotency-Replayed"] = "true"
        status = 201 if created.is_new else 200
        return response_of(wallet_answer(created.row, status=status, headers=headers))

    async def read(self, call: Call) -> web.Response:
        """GET /v1/wallets/{wallet_id}."""
        condition = call.if_none_match
        wallet_id = call.request.match_info["wallet_id"]
        answer = await answer_of(call, self._services, partial(ReadWalletCall, wallet_id=wallet_id))
        tag = answer.headers["ETag"]
        if condition is not None and condition.holds_weakly(tag):
            return web.Response(status=304, headers={"ETag": tag})
        return response_of(answer)

    async def list_page(self, call: Call) -> web.Response:
        """GET /v1/wallets."""
        query = call.query
        wanted = WalletFilter(
            owner_id=query.text("owner_id"),
            currency=_currency(query.text("currency")),
            status=query.word("status", WalletStatus),
            kind=query.word("kind", RequestedKind),
            is_deleted_wanted=query.flag("include_deleted"),
        )
        rows, following = await self._store.list_page(
            wanted,
            after=query.id_position("wallets") or _FIRST_ID,
            limit=query.limit(),
            holder=None if call.client.reach is Reach.ALL else holder_of(call.client),
        )
        items = [render_wallet(row) for row in rows]
        return page_response(items, query.cursor("wallets", following))

    async def change(self, call: Call) -> web.Response:
        """PATCH /v1/wallets/{wallet_id}."""
        wallet_id, condition = _wallet_id(call), call.if_match
        change = wallet_change_of(await call.json())
        async with self._locked(call.client, wallet_id) as (connection, row):
            check_change(call.client, change)
            require_match(row, condition)
            state = changed_state(row, change)
            changed = await self._store.change(connection, wallet_id, state)
            await note_act(
                connection,
                call.trail,
                action="wallet.changed",
                subject=f"wallet:{wallet_id}",
                detail={
                    "fields": sorted(change.model_fields_set),
                    "status": state[0],
                    "overdraft_limit": state[1],
                },
            )
        if changed is None:
            raise AssertionError("a locked wallet can be changed")
        return response_of(wallet_answer(changed))

    async def delete(self, call: Call) -> web.Response:
        """DELETE /v1/wallets/{wallet_id}."""
        wallet_id, condition = _wallet_id(call), call.if_match
        async with self._locked(call.client, wallet_id) as (connection, row):
            # Once it is deleted, asking for it again, under its former tag too, changes nothing.
            if row["deleted_at"] is None:
                check_deletion(call.client, row["status"])
                require_match(row, condition)
                require_empty(row)
                await self._store.delete(connection, wallet_id)
                await note_act(
                    connection, call.trail, action="wallet.deleted", subject=f"wallet:{wallet_id}"
                )
        return web.Response(status=204)

    async def list_entries(self, call: Call) -> web.Response:
        """GET /v1/wallets/{wallet_id}/entries."""
        wallet_id, query = _wallet_id(call), call.query
        wanted = EntryFilter(
            start=query.moment("from"),
            end=query.moment("to"),
            type=query.word("type", TransactionType),
        )
        if wanted == ALL_ENTRIES:
            make = partial(ReadEntriesCall, wallet_id=str(wallet_id), query=query)
            return response_of(await answer_of(call, self._services, make))
        listing = f"entries:{wallet_id}"
        before, limit = query.sequence_position(listing), query.limit()
        await self._existing(call.client, wallet_id)
        rows, following = await self._store.list_entries(
            wallet_id, wanted, before=before, limit=limit
        )
        items = [render_wallet_entry(row) for row in rows]
        return page_response(items, query.cursor(listing, following))

    async def read_balance(self, call: Call) -> web.Response:
        """GET /v1/wallets/{wallet_id}/balance."""
        wallet_id = _wallet_id(call)
        at = call.query.moment("at") or await self._store.read_clock()
        wallet = await self._existing(call.client, wallet_id)
        balance = await self._store.read_balance(wallet_id, at)
        return json_response(
            {"balance": format_minor(balance, wallet["currency"]), "at": format_moment(at)}
        )

    @asynccontextmanager
    async def _locked(
        self, client: Client, wallet_id: UUID
    ) -> AsyncIterator[tuple[Connection, asyncpg.Record]]:
        """Lock a wallet that a client may change, until the database transaction ends with this."""
        if not await self._guard.is_theirs(client, wallet_id):
            raise wallet_not_found(wallet_id)
        async with self._store.acquire() as connection, connection.transaction():
            row = await self._store.lock(connection, wallet_id)
            if row is None:
                raise wallet_not_found(wallet_id)
            if row["kind"] == WalletKind.EXTERNAL:
                raise ContractError(
                    ProblemCode.NOT_PERMITTED, "an external wallet cannot be changed or deleted"
                )
            yield connection, row

    async def _existing(self, client: Client, wallet_id: UUID) -> asyncpg.Record:
        if not await self._guard.is_theirs(client, wallet_id):
            raise wallet_not_found(wallet_id)
        row = await self._store.read(wallet_id)
        if row is None:
            raise wallet_not_found(wallet_id)
        return row


def require_match(row: Any, condition: TagCondition | None) -> None:
    """Raise ContractError where a change rests on another version of the locked wallet."""
    if condition is None or condition.holds_strongly(wallet_answer(row).headers["ETag"]):
        return
    raise ContractError(
        ProblemCode.PRECONDITION_FAILED,
        "If-Match does not name the wallet's current ETag; read again",
    )


def require_empty(row: Any) -> None:
    """Raise ContractError for a wallet that cannot be closed yet."""
    if row["balance"]:
        raise ContractError(ProblemCode.WALLET_NOT_EMPTY, "bring the balance to zero first")
    if row["held"]:
        raise ContractError(ProblemCode.WALLET_NOT_EMPTY, "end what holds money in it first")


def changed_state(row: Any, change: WalletChange) -> tuple[str, int, str | None]:
    """Return a wallet's status, overdraft limit and metadata after a change; raises ContractError.

    Pure: `row` is the locked wallet. A CLOSED wallet stays as it is for ever.
    """
    if row["deleted_at"] is not None:
        raise ContractError(ProblemCode.WALLET_CLOSED, "a deleted wallet stays as it is")
    if row["status"] == WalletStatus.CLOSED:
        raise ContractError(ProblemCode.WALLET_CLOSED, "a closed wallet stays closed")
    status = change.status or WalletStatus(row["status"])
    if status is WalletStatus.CLOSED:
        require_empty(row)
    limit = _changed_limit(row, change)
    metadata: str | None = row["metadata"]
    if change.metadata is not None:
        metadata = change.metadata.decode()
    return status, limit, metadata


def _changed_limit(row: Any, change: WalletChange) -> int:
    """Return a wallet's overdraft limit after a change, in minor units; an internal one's is 0."""
    limit: int = row["overdraft_limit"]
    is_internal = row["kind"] == WalletKind.INTERNAL
    if is_internal and "overdraft_limit" in change.model_fields_set:
        raise unlimited_overdraft()
    if is_internal:
        return limit
    if change.overdraft_limit is not None:
        limit = overdraft_minor(change.overdraft_limit, row["currency"])
    # The database counts an expired hold until it is written as such, within seconds.
    if row["balance"] - row["recorded_held"] + limit < 0:
        raise ContractError(
            ProblemCode.OVERDRAFT_IN_USE, "the balance is further below zero than this limit"
        )
    return limit


def _wallet_id(call: Call) -> UUID:
    return uuid_of("wallet_id", call.request.match_info["wallet_id"])


def _currency(code: str | None) -> str | None:
    if code is not None:
        try:
            exponent_of(code)
        except ValueError as error:
            raise ContractError(ProblemCode.INVALID_PARAMETER, f"currency: {error}") from None
    return code


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
        cursor = query.cursor(listing, None if following is None else _bytes_of(following))
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
