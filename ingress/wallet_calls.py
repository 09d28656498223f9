"""The calls that read a wallet and its entries, for both HTTP paths; see ingress/calls.py."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from contracts.problems import ContractError, ProblemCode
from contracts.representations.wallet import entry_page, render_wallet
from contracts.scopes import Reach, Scope
from ingress.authentication import Client
from ingress.calls import Answer, Finish, Names, Services, StepCall
from ingress.parsing import Query, uuid_of
from ingress.reads.wallets import SEQUENCE_MAX, Entries, EntryPage, page_of


class ReadWalletCall(StepCall):
    """GET /v1/wallets/{wallet_id}, without a condition on its version."""

    scope = Scope.WALLETS_READ
    _id: UUID

    def __init__(
        self, services: Services, *, wallet_id: str, names: Names, wait_s: int, finish: Finish
    ) -> None:
        """`wallet_id` is the last part of the path, as it was sent; nothing is waited for."""
        super().__init__(services, names=names, wait_s=wait_s, finish=finish)
        self._sent_id = wallet_id

    def _run(self, client: Client) -> None:
        self._id = uuid_of("wallet_id", self._sent_id)
        if client.reach is Reach.ALL:
            self._then(self._services.wallets.read_soon(self._id), self._read)
        else:
            self._then(self._services.guard.look_up(client, [self._id]), self._looked_up)

    def _looked_up(self, looked_up: "asyncio.Future[Sequence[UUID | None]]") -> None:
        if self._id not in looked_up.result():
            raise wallet_not_found(self._id)
        self._then(self._services.wallets.read_soon(self._id), self._read)

    def _read(self, read: "asyncio.Future[Sequence[asyncpg.Record | None]]") -> None:
        [row] = read.result()
        if row is None:
            raise wallet_not_found(self._id)
        self._end(wallet_answer(row))


class ReadEntriesCall(StepCall):
    """GET /v1/wallets/{wallet_id}/entries, of every type and all times."""

    scope = Scope.WALLETS_READ
    _page: EntryPage

    def __init__(
        self,
        services: Services,
        *,
        wallet_id: str,
        query: Query,
        names: Names,
        wait_s: int,
        finish: Finish,
    ) -> None:
        """`wallet_id` is a part of the path, as it was sent; nothing is waited for."""
        super().__init__(services, names=names, wait_s=wait_s, finish=finish)
        self._sent_id = wallet_id
        self._query = query

    def _run(self, client: Client) -> None:
        wallet_id = uuid_of("wallet_id", self._sent_id)
        below = self._query.sequence_position(f"entries:{wallet_id}") or SEQUENCE_MAX
        self._page = EntryPage(wallet_id, below, 0, self._query.limit() + 1)
        if client.reach is Reach.ALL:
            self._then(self._services.wallets.entries_soon(self._page), self._read)
        else:
            self._then(self._services.guard.look_up(client, [wallet_id]), self._looked_up)

    def _looked_up(self, looked_up: "asyncio.Future[Sequence[UUID | None]]") -> None:
        if self._page.wallet_id not in looked_up.result():
            raise wallet_not_found(self._page.wallet_id)
        self._then(self._services.wallets.entries_soon(self._page), self._read)

    def _read(self, read: "asyncio.Future[Sequence[Entries]]") -> None:
        [newest] = read.result()
        if newest:
            self._answer(newest)
        else:
            wallet_id = self._page.wallet_id
            self._then(self._services.wallets.read_soon(wallet_id), self._read_empty)

    def _read_empty(self, read: "asyncio.Future[Sequence[asyncpg.Record | None]]") -> None:
        """A wallet without entries, or none at all."""
        if read.result() == [None]:
            raise wallet_not_found(self._page.wallet_id)
        self._answer(())

    def _answer(self, newest: Entries) -> None:
        rows, following = page_of(newest, limit=self._page.most - 1)
        cursor = self._query.cursor(f"entries:{self._page.wallet_id}", following)
        self._end(Answer(200, entry_page(rows, cursor)))


def wallet_answer(
    row: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    """Return a wallet as JSON, with its entity tag: a strong one, of all that the answer shows."""
    body = orjson.dumps(render_wallet(row))
    # As an ETag, half a digest is plenty.
    tag = f'"{row["version"]}-{hashlib.sha256(body).hexdigest()[:32]}"'
    return Answer(status, body, {"ETag": tag, **(headers or {})})


def wallet_not_found(wallet_id: UUID) -> ContractError:
    """Return what is wrong with the id of a wallet that there is not, or that is another's."""
    return ContractError(ProblemCode.WALLET_NOT_FOUND, f"there is no wallet {wallet_id}")
