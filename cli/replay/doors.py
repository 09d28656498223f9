"""The two doors a replay can go through. Each keeps the file's order for every wallet."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

import orjson

from ackledger.client.asynchronous import AsyncClient
from ackledger.client.publishing import AsyncPublisher, UpstreamMessage
from ackledger.client.session import PASSING
from cli.replay.finality import await_final
from cli.replay.ordering import FileOrder, Item
from cli.replay.sent import SentRows
from cli.replay.tally import Tally, Trail
from ledger.words import FINAL_STATUSES
from runtime.service.periodic import Backoff

BATCH_BYTES_MAX: Final = 900 * 1024
"""The body of a batch: below the one mebibyte that both doors take."""
_BATCHES_AHEAD: Final = 2
"""Rows wait for so many batches of each connection: enough to find some that need not wait."""
_POSTED_IN_S: Final = 120.0
"""The reconciler finds a transaction that lost its place within half a minute."""
_ROW_PROBLEMS: Final = frozenset({400, 413, 422})
"""Statuses that speak of the one request; any other would meet every row."""


class Door(Protocol):
    """Takes items in their order, in bounded memory."""

    async def run(self) -> None:
        """Work until `finish` has been called and everything sent is answered."""

    async def send(self, item: Item) -> None:
        """Take an item; waits while as many wait as may wait."""

    async def finish(self) -> None:
        """Say that no more items come."""


class HttpDoor:
    """Requests at once, each with rows that need not wait for those of another."""

    def __init__(self, client: AsyncClient, tally: Tally, *, connections: int, batch: int) -> None:
        """`batch` 1 sends single requests; more sends what waits, up to so many, as one."""
        self._client = client
        self._tally = tally
        self._batch = batch
        self._connections = connections
        self._waiting_max = _BATCHES_AHEAD * batch * connections
        self._order = FileOrder()
        self._requests = 0
        self._is_finished = False
        self._has_changed = asyncio.Event()
        self._has_room = asyncio.Event()
        tally.new, tally.replays = 0, 0

    async def run(self) -> None:
        """Send what may be sent, until everything is answered."""
        async with asyncio.TaskGroup() as group:
            while not self._is_finished or self._requests or self._order:
                self._start_requests(group)
                await self._has_changed.wait()
                self._has_changed.clear()

    async def send(self, item: Item) -> None:
        """Let an item wait for its turn."""
        while len(self._order) >= self._waiting_max:
            self._has_room.clear()
            await self._has_room.wait()
        self._order.add(item)
        self._has_changed.set()

    async def finish(self) -> None:
        """Let it end when everything is answered."""
        self._is_finished = True
        self._has_changed.set()

    def _start_requests(self, group: asyncio.TaskGroup) -> None:
        while self._requests < self._connections:
            items = self._order.take(self._batch, size=BATCH_BYTES_MAX)
            if not items:
                return
            self._requests += 1
            group.create_task(self._request(items))
            self._has_room.set()

    async def _request(self, items: Sequence[Item]) -> None:
        """Send items until each is accepted or refused; only then others may follow them."""
        backoff = Backoff(first_s=0.1, most_s=5.0)
        later = await self._submit(items)
        while later:
            await asyncio.sleep(backoff.next_delay_s())
            later = await self._submit(later)
        self._order.release(items)
        self._requests -= 1
        self._has_changed.set()

    async def _submit(self, items: Sequence[Item]) -> list[Item]:
        """Send items and note their answers; return those that are to be sent again.

        A replay that is PENDING may have lost its place in line with the answer to its first
        request: it is waited for, so that nothing behind it overtakes it.
        """
        later, unposted = [], []
        for item, answer in zip(items, await self._answers(items), strict=True):
            if answer["status_code"] in PASSING:
                later.append(item)
                continue
            self._note(item, answer)
            if (
                answer["status_code"] == HTTPStatus.OK
                and answer["transaction"]["status"] == "PENDING"
            ):
                unposted.append(answer["transaction"]["id"])
        self._tally.retries = self._client.retries
        for transaction_id in unposted:
            await await_final(self._client, transaction_id, timeout_s=_POSTED_IN_S)
        return later

    async def _answers(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        if len(items) > 1:
            body = b'{"transactions":[%s]}' % b",".join(item.body for item in items)
            answer = await self._client.call("POST", "/v1/transactions/batch", data=body)
            if answer.status not in _ROW_PROBLEMS:
                answers: list[dict[str, Any]] = answer.wanted()["items"]
                return answers
        # One by one also when a single row spoils a whole request: that row is to be named.
        return [await self._answer(item) for item in items]

    async def _answer(self, item: Item) -> dict[str, Any]:
        answer = await self._client.call("POST", "/v1/transactions", data=item.body)
        if answer.status in _ROW_PROBLEMS:
            problem = answer.body if isinstance(answer.body, dict) else {"detail": answer.body}
            return {"status_code": answer.status, "problem": problem}
        transaction = answer.wanted()
        status = HTTPStatus.OK if answer.is_replay else HTTPStatus.ACCEPTED
        return {"status_code": status, "transaction": transaction}

    def _note(self, item: Item, answer: dict[str, Any]) -> None:
        tally = self._tally
        if answer["status_code"] not in (HTTPStatus.OK, HTTPStatus.ACCEPTED):
            tally.meet_problem(item.line, answer["problem"])
            return
        transaction = answer["transaction"]
        tally.answered += 1
        is_new = answer["status_code"] == HTTPStatus.ACCEPTED
        tally.new = (tally.new or 0) + is_new
        tally.replays = (tally.replays or 0) + (not is_new)
        tally.submitter = transaction["submitter"]
        if is_new and (tally.since is None or transaction["created_at"] < tally.since):
            tally.since = transaction["created_at"]
        if is_new or transaction["status"] not in FINAL_STATUSES:
            trail = tally.trails.setdefault(item.wallet, Trail())
            trail.rows += 1
            trail.last = transaction["id"]


class AmqpDoor:
    """Publishes as an upstream system does, single messages or batches, in the file's order.

    All messages have one routing key, the first row's wallet: so they are in one queue, and the
    order of the file holds for the wallets that are credited, too, whatever the partitions.
    """

    def __init__(
        self,
        publisher: AsyncPublisher,
        tally: Tally,
        *,
        batch: int,
        sent: SentRows | None = None,
    ) -> None:
        """`sent` remembers the rows, for whoever asks later what became of them."""
        self._sent = sent
        self._publisher = publisher
        self._tally = tally
        self._batch = batch
        self._gathered: list[Item] = []
        self._gathered_bytes = 0
        self._routing_key = ""
        self._finished = asyncio.Event()

    async def run(self) -> None:
        """Wait for the end; all work is done where items are handed in."""
        await self._finished.wait()

    async def send(self, item: Item) -> None:
        """Add the item to the batch, and publish that when it is full."""
        self._routing_key = self._routing_key or item.wallet
        if self._sent is not None:
            self._sent.add(item)
        self._gathered.append(item)
        self._gathered_bytes += len(item.body)
        if len(self._gathered) >= self._batch or self._gathered_bytes >= BATCH_BYTES_MAX:
            await self._publish()
        trail = self._tally.trails.setdefault(item.wallet, Trail())
        trail.rows += 1
        trail.last = item.key

    async def finish(self) -> None:
        """Publish what has been gathered, and return when the broker has everything for sure."""
        if self._gathered:
            await self._publish()
        await self._publisher.flush()
        self._count()
        self._finished.set()

    async def _publish(self) -> None:
        gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
        await self._publisher.send(
            UpstreamMessage(
                routing_key=self._routing_key,
                body=self._body(gathered),
                transactions=len(gathered),
            )
        )
        self._count()

    def _body(self, items: Sequence[Item]) -> bytes:
        if self._batch == 1:
            return b'{"version":1,' + items[0].body[1:]
        return b'{"version":1,"transactions":[%s]}' % b",".join(item.body for item in items)

    def _count(self) -> None:
        self._tally.answered = self._publisher.confirmed_transactions
        self._tally.retries = self._publisher.resent_messages


def encoded(request: dict[str, Any]) -> bytes:
    """Return a request's body as both doors take it."""
    return orjson.dumps(request)
