"""The calls on wallets."""

from typing import Any, Final
from uuid import UUID

import asyncpg
from aiohttp import web

from contracts.money import exponent_of, format_minor
from contracts.problems import ContractError, ProblemCode
from contracts.representations.transaction import format_moment, render_wallet, render_wallet_entry
from contracts.requests.transaction import TransactionType, checked_key
from contracts.requests.wallet import (
    WalletChange,
    WalletKind,
    WalletStatus,
    overdraft_minor,
    wallet_change_of,
    wallet_request_of,
)
from ingress.http.middleware import Call, json_response
from ingress.parsing import ID_BYTES, SEQUENCE_BYTES, uuid_of
from ingress.reads.wallets import EntryFilter, WalletFilter, WalletStore

_FIRST_ID: Final = UUID(int=0)


class WalletCalls:
    """Create, read, list and change wallets, and read their histories."""

    def __init__(self, store: WalletStore) -> None:
        self._store = store

    async def create(self, call: Call) -> web.Response:
        """POST /v1/wallets."""
        key = call.idempotency_key
        wanted = wallet_request_of(await call.json())
        created = await self._store.create(
            wanted,
            submitter=call.client.name,
            idempotency_key=None if key is None else checked_key(key),
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
        return json_response(render_wallet(created.row), status=status, headers=headers)

    async def read(self, call: Call) -> web.Response:
        """GET /v1/wallets/{wallet_id}."""
        return json_response(render_wallet(await self._existing(_wallet_id(call))))

    async def list_page(self, call: Call) -> web.Response:
        """GET /v1/wallets."""
        query = call.query
        wanted = WalletFilter(
            owner_id=query.text("owner_id"),
            currency=_currency(query.text("currency")),
            status=query.word("status", WalletStatus),
        )
        position = query.position("wallets", ID_BYTES)
        rows, following = await self._store.list_page(
            wanted,
            after=_FIRST_ID if position is None else UUID(bytes=position),
            limit=query.limit(),
        )
        cursor = None if following is None else query.cursor("wallets", following.bytes)
        return json_response({"items": [render_wallet(row) for row in rows], "next_cursor": cursor})

    async def change(self, call: Call) -> web.Response:
        """PATCH /v1/wallets/{wallet_id}."""
        wallet_id = _wallet_id(call)
        change = wallet_change_of(await call.json())
        async with self._store.acquire() as connection, connection.transaction():
            row = await self._store.lock(connection, wallet_id)
            if row is None:
                raise _not_found(wallet_id)
            state = changed_state(row, change)
            changed = await self._store.change(connection, wallet_id, state)
            await self._store.audit(
                connection,
                actor=call.client.name,
                action="wallet.changed",
                subject=f"wallet:{wallet_id}",
                detail={
                    "fields": sorted(change.model_fields_set),
                    "status": state[0],
                    "overdraft_limit": state[1],
                    "request_id": call.request_id,
                },
            )
        if changed is None:
            raise AssertionError("a locked wallet can be changed")
        return json_response(render_wallet(changed))

    async def list_entries(self, call: Call) -> web.Response:
        """GET /v1/wallets/{wallet_id}/entries."""
        wallet_id, query = _wallet_id(call), call.query
        wanted = EntryFilter(
            start=query.moment("from"),
            end=query.moment("to"),
            type=query.word("type", TransactionType),
        )
        listing = f"entries:{wallet_id}"
        position = query.position(listing, SEQUENCE_BYTES)
        limit = query.limit()
        await self._existing(wallet_id)
        rows, following = await self._store.list_entries(
            wallet_id,
            wanted,
            before=None if position is None else int.from_bytes(position, "big"),
            limit=limit,
        )
        cursor = (
            None
            if following is None
            else query.cursor(listing, following.to_bytes(SEQUENCE_BYTES, "big"))
        )
        return json_response(
            {"items": [render_wallet_entry(row) for row in rows], "next_cursor": cursor}
        )

    async def read_balance(self, call: Call) -> web.Response:
        """GET /v1/wallets/{wallet_id}/balance."""
        wallet_id = _wallet_id(call)
        at = call.query.moment("at") or await self._store.read_clock()
        wallet = await self._existing(wallet_id)
        balance = await self._store.read_balance(wallet_id, at)
        return json_response(
            {"balance": format_minor(balance, wallet["currency"]), "at": format_moment(at)}
        )

    async def _existing(self, wallet_id: UUID) -> asyncpg.Record:
        row = await self._store.read(wallet_id)
        if row is None:
            raise _not_found(wallet_id)
        return row


def changed_state(row: Any, change: WalletChange) -> tuple[str, int, str | None]:
    """Return a wallet's status, overdraft limit and metadata after a change; raises ContractError.

    Pure: `row` is the locked wallet. A CLOSED wallet stays as it is for ever.
    """
    if row["kind"] == WalletKind.EXTERNAL:
        raise ContractError(ProblemCode.NOT_PERMITTED, "an external wallet cannot be changed")
    if row["status"] == WalletStatus.CLOSED:
        raise ContractError(ProblemCode.WALLET_CLOSED, "a closed wallet stays closed")
    status = change.status or WalletStatus(row["status"])
    if status is WalletStatus.CLOSED and (row["balance"] or row["held"]):
        raise ContractError(ProblemCode.WALLET_NOT_EMPTY, "bring the balance to zero first")
    limit: int = row["overdraft_limit"]
    if change.overdraft_limit is not None:
        limit = overdraft_minor(change.overdraft_limit, row["currency"])
    if row["balance"] - row["held"] + limit < 0:
        raise ContractError(
            ProblemCode.OVERDRAFT_IN_USE, "the balance is further below zero than this limit"
        )
    metadata: str | None = row["metadata"]
    if change.metadata is not None:
        metadata = change.metadata.decode()
    return status, limit, metadata


def _wallet_id(call: Call) -> UUID:
    return uuid_of("wallet_id", call.request.match_info["wallet_id"])


def _currency(code: str | None) -> str | None:
    if code is not None:
        try:
            exponent_of(code)
        except ValueError as error:
            raise ContractError(ProblemCode.INVALID_PARAMETER, f"currency: {error}") from None
    return code


def _not_found(wallet_id: UUID) -> ContractError:
    return ContractError(ProblemCode.WALLET_NOT_FOUND, f"there is no wallet {wallet_id}")
