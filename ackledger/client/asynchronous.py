"""The client of the HTTP API, for asyncio."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from ackledger.client.errors import ProblemError, WaitTimeoutError, problem_error
from ackledger.client.events import Followed, Following, Reset
from ackledger.client.requests import Amount, Id, Json, Mode, TransactionRequest, new_key, written
from ackledger.client.session import PASSING, ApiSession, read_as
from contracts.operations.shapes import WAIT_S_MAX
from contracts.representations.pages import PAGE_LIMIT_MAX, TransactionPreview
from contracts.representations.transaction import Transaction
from contracts.representations.wallet import Balance, Wallet, WalletEntry, WalletHold
from ledger.words import FINAL_STATUSES, TransactionStatus
from runtime.service.periodic import Backoff

SETTLED: Final = FINAL_STATUSES | {TransactionStatus.QUARANTINED}
"""What does not change by itself any more: QUARANTINED waits for an operator."""
WAIT_TIMEOUT_S: Final = 60.0

Model = TypeVar("Model", bound=BaseModel)


class AsyncClient(ApiSession):
    """Everything that a system does with its API key.

    Raises ProblemError for what the service refuses, UnreachableError where it does not answer.
    Money is a Decimal in major units, ids are UUIDs, moments have their offset from UTC. A word
    that this release does not know, such as a new failure code, is read as plain text.

        async with AsyncClient("https://ledger.example", api_key) as client:
            wallet = await client.create_wallet(currency="EUR")
            paid = await client.submit(
                Deposit(destination_wallet_id=wallet.id, amount="10.00", currency="EUR"),
                wait_s=10,
            )
    """

    async def submit(self, request: TransactionRequest, *, wait_s: float = 0) -> Transaction:
        """Submit a transaction, and wait up to `wait_s` (at most 30) for its final state.

        What is returned is accepted for certain. It may be PENDING still, or FAILED, with the
        reason in `failure`. The same request again gives the same transaction.
        """
        answer = await self.call(
            "POST", "/v1/transactions", body=request.body(), headers=preference(wait_s)
        )
        return read_as(Transaction, answer.wanted())

    async def submit_batch(
        self, requests: Sequence[TransactionRequest], *, mode: Mode = "independent"
    ) -> list[Transaction | ProblemError]:
        """Submit up to a thousand in one call; return what each would have been answered alone.

        With the mode `atomic` all are accepted or the call raises, and all are posted or FAILED.
        """
        answers: list[Transaction | ProblemError | None] = [None] * len(requests)
        waiting = list(range(len(requests)))
        backoff, until = Backoff(first_s=0.1, most_s=5.0), time.monotonic() + self._give_up_after_s
        while waiting:
            body: Json = {"transactions": [requests[number].body() for number in waiting]}
            if mode == "atomic":
                body["mode"] = mode
            answer = await self.call("POST", "/v1/transactions/batch", body=body)
            for number, item in zip(waiting, answer.wanted()["items"], strict=True):
                answers[number] = _item(item)
            # Such as an item whose group met a database that was away for a moment.
            waiting = [number for number in waiting if _is_passing(answers[number])]
            if time.monotonic() >= until:
                break
            if waiting:
                self.retries += 1
                await asyncio.sleep(backoff.next_delay_s())
        return [one for one in answers if one is not None]

    async def preview(
        self, requests: Sequence[TransactionRequest], *, mode: Mode = "independent"
    ) -> TransactionPreview:
        """Return what posting these transactions now would do; nothing is written."""
        body = {"mode": mode, "transactions": [one.body() for one in requests]}
        answer = await self.call("POST", "/v1/transactions/preview", body=body)
        return read_as(TransactionPreview, answer.wanted())

    async def cancel(
        self, transaction_id: Id, *, idempotency_key: str | None = None
    ) -> Transaction:
        """Cancel a SCHEDULED transaction; raises ConflictError for any other."""
        answer = await self.call(
            "POST",
            f"/v1/transactions/{_part(transaction_id)}/cancel",
            headers={"Idempotency-Key": idempotency_key or new_key()},
        )
        return read_as(Transaction, answer.wanted())

    async def read_transaction(self, transaction_id: Id, *, wait_s: float = 0) -> Transaction:
        """Return a transaction, waiting up to `wait_s` (at most 30) for its final state."""
        path = f"/v1/transactions/{_part(transaction_id)}"
        answer = await self.call("GET", path, headers=preference(wait_s))
        return read_as(Transaction, answer.wanted())

    async def wait(self, transaction_id: Id, *, timeout_s: float = WAIT_TIMEOUT_S) -> Transaction:
        """Return a transaction when it is final, or QUARANTINED; raises WaitTimeoutError."""
        until = time.monotonic() + timeout_s
        backoff = Backoff(first_s=0.1, most_s=2.0)
        while True:
            asked = time.monotonic()
            transaction = await self.read_transaction(transaction_id, wait_s=until - asked)
            if transaction.status in SETTLED:
                return transaction
            now = time.monotonic()
            if now >= until:
                raise WaitTimeoutError(transaction)
            # The service may know at once that its wait would be in vain.
            pause_s = backoff.next_delay_s() - (now - asked)
            await asyncio.sleep(min(max(pause_s, 0.0), until - now))

    async def find_transaction(
        self, *, idempotency_key: str | None = None, reference: str | None = None
    ) -> Transaction | None:
        """Return the transaction that a key of yours or a reference (TXN-…) names, if any does."""
        query = _query(idempotency_key=idempotency_key, reference=reference)
        if not query:
            raise ValueError("name an idempotency_key or a reference")
        answer = await self.call("GET", "/v1/transactions", parameters=query)
        items = answer.wanted()["items"]
        return read_as(Transaction, items[0]) if items else None

    def list_transactions(
        self,
        *,
        wallet_id: Id | None = None,
        status: str | None = None,
        type: str | None = None,  # noqa: A002  # as the API calls it
        from_: datetime | None = None,
        to: datetime | None = None,
        metadata: tuple[str, str] | None = None,
    ) -> AsyncGenerator[Transaction, None]:
        """Iterate over transactions, the newest first, page by page.

        `metadata` is the name and the value, as text, of a member that they have. It goes with
        `wallet_id`, or with `from_` and `to` at most 31 days apart, and looks through all of those.
        """
        query = _query(
            wallet_id=wallet_id,
            status=status,
            type=type,
            from_=from_,
            to=to,
            metadata=None if metadata is None else _member(*metadata),
        )
        return self._items("/v1/transactions", Transaction, query)

    async def create_wallet(
        self,
        *,
        currency: str,
        owner_id: str | None = None,
        kind: str | None = None,
        overdraft_limit: Amount | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Wallet:
        """Create a wallet, or return the one that the key has created before."""
        body = written(
            {
                "currency": currency,
                "owner_id": owner_id,
                "kind": kind,
                "overdraft_limit": overdraft_limit,
                "metadata": metadata,
            }
        )
        key = {"Idempotency-Key": idempotency_key or new_key()}
        answer = await self.call("POST", "/v1/wallets", body=body, headers=key)
        return read_as(Wallet, answer.wanted())

    async def read_wallet(self, wallet_id: Id) -> Wallet:
        """Return a wallet."""
        answer = await self.call("GET", f"/v1/wallets/{_part(wallet_id)}")
        return read_as(Wallet, answer.wanted())

    async def change_wallet(
        self,
        wallet_id: Id,
        *,
        status: str | None = None,
        overdraft_limit: Amount | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Wallet:
        """Change what is named: freeze, close, limit, describe. `metadata` is replaced whole."""
        body = written({"status": status, "overdraft_limit": overdraft_limit, "metadata": metadata})
        answer = await self.call("PATCH", f"/v1/wallets/{_part(wallet_id)}", body=body)
        return read_as(Wallet, answer.wanted())

    def list_wallets(
        self,
        *,
        owner_id: str | None = None,
        currency: str | None = None,
        status: str | None = None,
        kind: str | None = None,
        include_deleted: bool = False,
    ) -> AsyncGenerator[Wallet, None]:
        """Iterate over wallets, the oldest first, page by page."""
        query = _query(
            owner_id=owner_id,
            currency=currency,
            status=status,
            kind=kind,
            include_deleted=include_deleted or None,
        )
        return self._items("/v1/wallets", Wallet, query)

    def list_entries(
        self,
        wallet_id: Id,
        *,
        type: str | None = None,  # noqa: A002  # as the API calls it
        from_: datetime | None = None,
        to: datetime | None = None,
    ) -> AsyncGenerator[WalletEntry, None]:
        """Iterate over a wallet's entries, the newest first, page by page."""
        query = _query(type=type, from_=from_, to=to)
        return self._items(f"/v1/wallets/{_part(wallet_id)}/entries", WalletEntry, query)

    def list_holds(
        self, wallet_id: Id, *, status: str | None = None
    ) -> AsyncGenerator[WalletHold, None]:
        """Iterate over a wallet's holds, page by page."""
        path = f"/v1/wallets/{_part(wallet_id)}/holds"
        return self._items(path, WalletHold, _query(status=status))

    async def read_balance(self, wallet_id: Id, *, at: datetime | None = None) -> Balance:
        """Return a wallet's balance at a moment, by default now."""
        path = f"/v1/wallets/{_part(wallet_id)}/balance"
        answer = await self.call("GET", path, parameters=_query(at=at))
        return read_as(Balance, answer.wanted())

    def follow_events(
        self,
        *,
        last_event_id: str | None = None,
        wallet_id: Id | None = None,
        transaction_id: Id | None = None,
        type: str | None = None,  # noqa: A002  # as the API calls it
    ) -> AsyncGenerator[Followed | Reset, None]:
        """Iterate over events for ever: from now on, or after the one with this `id`.

        A connection that is lost, or silent for too long, is made again after the last event.
        Raises UnreachableError or ProblemError when that has failed for `give_up_after_s`.
        """
        query = _query(wallet_id=wallet_id, transaction_id=transaction_id, type=type)
        following = Following(self.events_from, query, last_event_id, self._give_up_after_s)
        return following.items()

    async def _items(
        self, path: str, model: type[Model], query: Mapping[str, str]
    ) -> AsyncGenerator[Model, None]:
        parameters = {"limit": str(PAGE_LIMIT_MAX), **query}
        while True:
            page = (await self.call("GET", path, parameters=parameters)).wanted()
            for one in page["items"]:
                yield read_as(model, one)
            if page["next_cursor"] is None:
                return
            parameters["cursor"] = page["next_cursor"]


def preference(wait_s: float) -> dict[str, str]:
    """Return the header that asks to wait for the final state, in whole seconds."""
    return {"Prefer": f"wait={min(math.ceil(wait_s), WAIT_S_MAX)}"} if wait_s > 0 else {}


def _item(item: Mapping[str, Any]) -> Transaction | ProblemError:
    if "transaction" in item:
        return read_as(Transaction, item["transaction"])
    return problem_error(item["status_code"], item["problem"])


def _is_passing(answer: Transaction | ProblemError | None) -> bool:
    return isinstance(answer, ProblemError) and answer.status in PASSING


def _query(**named: object) -> dict[str, str]:
    """Return query parameters as text; without those that are None, `from_` as `from`."""
    return {
        name.removesuffix("_"): _text(value) for name, value in named.items() if value is not None
    }


def _member(name: str, value: str) -> str:
    if not name or ":" in name:
        raise ValueError("metadata: a name without a colon is searched for")
    return f"{name}:{value}"


def _text(value: object) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a moment has an offset from UTC")
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value.value if isinstance(value, Enum) else value)


def _part(value: Id) -> str:
    return quote(str(value), safe="")
