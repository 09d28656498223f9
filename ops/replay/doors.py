"""The two doors a replay can go through. Each keeps the order of a wallet's transactions."""

import asyncio
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from contracts.transactions import FINAL_STATUSES
from ops.clients.amqp import UpstreamMessage, UpstreamPublisher
from ops.clients.http import ACCEPTED, OK, PASSING, ApiClient
from ops.replay.finality import await_final
from ops.replay.tally import Tally, Trail
from runtime.backoff import Backoff

BATCH_BYTES_MAX: Final = 900 * 1024
"""The body of a batch: below the one mebibyte that both doors take."""
_SHARDS: Final = 8
"""AMQP batches are gathered in so many places; a wallet always falls into the same one."""
_POSTED_IN_S: Final = 120.0
"""The reconciler finds a transaction that lost its place within half a minute."""
_ROW_PROBLEMS: Final = frozenset({400, 413, 422})
"""Statuses that speak of the one request; any other would meet every row."""


@dataclass(frozen=True, slots=True)
class Item:
    """A transaction to send: the wallet whose order counts, and the encoded request."""

    line: int
    wallet: str
    key: str
    body: bytes


class Door(Protocol):
    """Takes items in their order, in bounded memory."""

    async def run(self) -> None:
        """Work until `finish` has been called and everything sent is answered."""

    async def send(self, item: Item) -> None:
        """Take an item; waits while as many wait as may wait."""

    async def finish(self) -> None:
        """Say that no more items come."""


def shard_of(wallet: str, shards: int) -> int:
    """Return the worker or the batch of a wallet: always the same one."""
    return zlib.crc32(wallet.encode()) % shards


class HttpDoor:
    """Workers with a wallet's rows in one hand: the next are sent when these are answered."""

    def __init__(self, client: ApiClient, tally: Tally, *, workers: int, batch: int) -> None:
        """`batch` 1 sends single requests; more sends what waits, up to so many, as one."""
        self._client = client
        self._tally = tally
        self._batch = batch
        self._queues: list[asyncio.Queue[Item | None]] = [
            asyncio.Queue(maxsize=2 * batch) for _ in range(workers)
        ]
        tally.new, tally.replays = 0, 0

    async def run(self) -> None:
        """Work until everything is answered."""
        async with asyncio.TaskGroup() as group:
            for queue in self._queues:
                group.create_task(self._work(queue))

    async def send(self, item: Item) -> None:
        """Hand the item to its wallet's worker."""
        await self._queues[shard_of(item.wallet, len(self._queues))].put(item)

    async def finish(self) -> None:
        """Let every worker end when its queue is empty."""
        for queue in self._queues:
            await queue.put(None)

    async def _work(self, queue: "asyncio.Queue[Item | None]") -> None:
        while items := await _take(queue, self._batch):
            backoff = Backoff(first_s=0.1, most_s=5.0)
            later = await self._submit(items)
            while later:
                await asyncio.sleep(backoff.next_delay_s())
                later = await self._submit(later)

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
            if answer["status_code"] == OK and answer["transaction"]["status"] == "PENDING":
                unposted.append(answer["transaction"]["id"])
        self._tally.retries = self._client.retries
        for transaction_id in unposted:
            await await_final(self._client, transaction_id, timeout_s=_POSTED_IN_S)
        return later

    async def _answers(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        if self._batch > 1:
            body = b'{"transactions":[%s]}' % b",".join(item.body for item in items)
            answer = await self._client.call("POST", "/v1/transactions/batch", data=body)
            answers: list[dict[str, Any]] = answer.expect(ACCEPTED)["items"]
            return answers
        answer = await self._client.call("POST", "/v1/transactions", data=items[0].body)
        if answer.status in _ROW_PROBLEMS:
            return [{"status_code": answer.status, "problem": answer.body}]
        transaction = answer.expect(OK, ACCEPTED)
        status = OK if answer.is_replay else ACCEPTED
        return [{"status_code": status, "transaction": transaction}]

    def _note(self, item: Item, answer: dict[str, Any]) -> None:
        tally = self._tally
        if answer["status_code"] not in (OK, ACCEPTED):
            tally.meet_problem(item.line, answer["problem"])
            return
        transaction = answer["transaction"]
        tally.answered += 1
        is_new = answer["status_code"] == ACCEPTED
        tally.new = (tally.new or 0) + is_new
        tally.replays = (tally.replays or 0) + (not is_new)
        tally.submitter = transaction["submitter"]
        if is_new and (tally.since is None or transaction["created_at"] < tally.since):
            tally.since = transaction["created_at"]
        if is_new or transaction["status"] not in FINAL_STATUSES:
            trail = tally.trails.setdefault(item.wallet, Trail())
            trail.rows += 1
            trail.last = transaction["id"]


async def _take(queue: "asyncio.Queue[Item | None]", count: int) -> list[Item]:
    """Return what waits, at least one item, within the bounds of a batch; empty at the end."""
    item = await queue.get()
    if item is None:
        return []
    taken, size = [item], len(item.body)
    while len(taken) < count and size < BATCH_BYTES_MAX and not queue.empty():
        item = queue.get_nowait()
        if item is None:
            queue.put_nowait(None)
            break
        taken.append(item)
        size += len(item.body)
    return taken


@dataclass(slots=True)
class _Gathering:
    """A batch that grows. All batches of one shard have one routing key, so one partition."""

    routing_key: str
    items: list[Item] = field(default_factory=list)
    size: int = 0


class AmqpDoor:
    """Publishes as an upstream system does, single messages or batches of a shard of wallets."""

    def __init__(self, publisher: UpstreamPublisher, tally: Tally, *, batch: int) -> None:
        self._publisher = publisher
        self._tally = tally
        self._batch = batch
        self._gatherings: dict[int, _Gathering] = {}
        self._finished = asyncio.Event()

    async def run(self) -> None:
        """Wait for the end; all work is done where items are handed in."""
        await self._finished.wait()

    async def send(self, item: Item) -> None:
        """Publish the item, or add it to the batch of its shard."""
        for message in self._messages(item):
            await self._publisher.send(message)
        trail = self._tally.trails.setdefault(item.wallet, Trail())
        trail.rows += 1
        trail.last = item.key
        self._tally.answered = self._publisher.confirmed_transactions
        self._tally.retries = self._publisher.resent_messages

    async def finish(self) -> None:
        """Publish what has been gathered, and return when the broker has everything for sure."""
        for gathering in self._gatherings.values():
            if gathering.items:
                await self._publisher.send(_message(gathering))
        await self._publisher.flush()
        self._tally.answered = self._publisher.confirmed_transactions
        self._tally.retries = self._publisher.resent_messages
        self._finished.set()

    def _messages(self, item: Item) -> Iterator[UpstreamMessage]:
        if self._batch == 1:
            yield UpstreamMessage(routing_key=item.wallet, body=b'{"version":1,' + item.body[1:])
            return
        shard = shard_of(item.wallet, _SHARDS)
        gathering = self._gatherings.setdefault(shard, _Gathering(routing_key=item.wallet))
        gathering.items.append(item)
        gathering.size += len(item.body)
        if len(gathering.items) >= self._batch or gathering.size >= BATCH_BYTES_MAX:
            yield _message(gathering)
            self._gatherings[shard] = _Gathering(routing_key=gathering.routing_key)


def _message(gathering: _Gathering) -> UpstreamMessage:
    bodies = b",".join(item.body for item in gathering.items)
    return UpstreamMessage(
        routing_key=gathering.routing_key,
        body=b'{"version":1,"transactions":[%s]}' % bodies,
        transactions=len(gathering.items),
    )


def encoded(request: dict[str, Any]) -> bytes:
    """Return a request's body as both doors take it."""
    return orjson.dumps(request)
