"""The calls on transactions."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import orjson
from aiohttp import web

from contracts.identifiers import first_id_at, id_of_reference
from contracts.problems import ContractError, FieldError, ProblemCode
from contracts.record import Submission
from contracts.representations.transaction import Json
from contracts.requests.transaction import (
    BATCH_MAX,
    TransactionCommand,
    TransactionStatus,
    TransactionType,
    checked_key,
    command_of,
    refuse_unknown,
)
from contracts.scopes import Scope
from ingress.calls import (
    RETRY,
    Answer,
    ReadCall,
    Services,
    SubmitCall,
    TransactionCall,
    conflict,
    own_request_id,
    pending_view,
)
from ingress.http.middleware import Call, json_response, response_of
from ingress.http.problems import problem_answer
from ingress.parsing import ID_BYTES
from ingress.reads.transactions import TransactionFilter
from ingress.submit.admission import backlog_full
from ingress.submit.recorder import Accepted, Outcome, Standing, count_standing
from runtime.service.pagination import Window

TURN_S: Final = 0.005
"""A batch works on its items for so long at a time: a batch of a thousand invalid ones takes a
tenth of a second, and a single submission meanwhile must not wait for it."""
Item = TypeVar("Item")
Made = TypeVar("Made")

_LAST_ID: Final = UUID(int=2**128 - 1)
_FIRST_ID: Final = UUID(int=0)


class TransactionCalls:
    """Submit, read and list transactions."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store

    async def submit(self, call: Call) -> web.Response:
        """POST /v1/transactions."""
        header_key = call.idempotency_key
        body = await call.body()
        return await self._answered(call, partial(SubmitCall, body=body, header_key=header_key))

    async def submit_batch(self, call: Call) -> web.Response:
        """POST /v1/transactions/batch."""
        items = _batch_items(await call.json())
        commands = [command async for command in _each_in_turn(items, _command_or_problem)]
        name, own_id, trace = call.client.name, own_request_id(call.names), call.names[0]
        submissions = [
            Submission(name, command, own_id, trace)
            for command in commands
            if isinstance(command, TransactionCommand)
        ]
        if self._services.backlog.is_full:
            raise backlog_full()
        accepted = await self._services.recorder.accept(submissions)
        for one in accepted:
            if isinstance(one, Accepted):
                count_standing(one.standing)
        recorded = zip(submissions, accepted, strict=True)
        outcomes: list[Exception | tuple[Submission, Outcome]] = [
            command if isinstance(command, Exception) else next(recorded) for command in commands
        ]
        body = await self._batch_body(call, outcomes)
        return response_of(Answer(202, body, RETRY))

    async def read(self, call: Call) -> web.Response:
        """GET /v1/transactions/{transaction_id}."""
        transaction_id = call.request.match_info["transaction_id"]
        return await self._answered(call, partial(ReadCall, transaction_id=transaction_id))

    async def list_page(self, call: Call) -> web.Response:
        """GET /v1/transactions."""
        query = call.query
        limit = query.limit()
        position = query.position("transactions", ID_BYTES)
        wanted, before = _filter_of(call)
        if position is not None:
            before = UUID(bytes=position)
        only = await self._named(call)
        if only is None:
            window = await self._store.list_page(wanted, before=before, limit=limit)
        else:
            window = Window(only, None)
        views = await self._store.read_many(window.matches, is_listed=only is None)
        items = [views[one] for one in window.matches if one in views]
        if only is not None:
            items = [item for item in items if _passes(item, wanted, before)]
        following = window.next_start
        cursor = None if following is None else query.cursor("transactions", following.bytes)
        return json_response({"items": items, "next_cursor": cursor})

    async def _named(self, call: Call) -> list[UUID] | None:
        """Return the ids that a key or a reference names; None when neither is given."""
        key = call.query.text("idempotency_key")
        reference = call.query.text("reference")
        submitter = call.query.text("submitter")
        if submitter is not None:
            call.client.require(Scope.OPERATIONS)
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

    async def _answered(self, call: Call, make: Callable[..., TransactionCall]) -> web.Response:
        """Make a call for a client that was admitted; return its answer, or raise what it met."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def finish(outcome: Answer | Exception) -> None:
            if answered.done():
                return  # Nobody waits any more.
            if isinstance(outcome, Answer):
                answered.set_result(outcome)
            else:
                answered.set_exception(outcome)

        made = make(self._services, names=call.names, wait_s=call.wait_s, finish=finish)
        made.begin_for(call.client)
        return response_of(await answered)

    async def _batch_body(
        self, call: Call, outcomes: Sequence[Exception | tuple[Submission, Outcome]]
    ) -> bytes:
        """Return an item for each outcome; the replays' transactions are read in one query."""
        replays = [
            one[1].row.id
            for one in outcomes
            if isinstance(one, tuple)
            and isinstance(one[1], Accepted)
            and one[1].standing is Standing.REPLAY
        ]
        views = await self._store.read_many(replays) if replays else {}
        written = partial(_batch_item, call, views)
        return b'{"items":[%b]}' % b",".join(
            [item async for item in _each_in_turn(outcomes, written)]
        )


def _batch_items(body: Any) -> list[Any]:
    if not isinstance(body, dict):
        raise ContractError.invalid_fields([FieldError("", "a JSON object is expected")])
    refuse_unknown(body, {"transactions"})
    if not isinstance(body.get("transactions"), list):
        raise ContractError.invalid_fields([FieldError("/transactions", "a list is expected")])
    items: list[Any] = body["transactions"]
    if not 1 <= len(items) <= BATCH_MAX:
        raise ContractError.invalid_fields(
            [FieldError("/transactions", f"1 to {BATCH_MAX} transactions, not {len(items)}")]
        )
    return items


def _command_or_problem(item: Any) -> TransactionCommand | ContractError:
    try:
        return command_of(item)
    except ContractError as error:
        return error


async def _each_in_turn(items: Sequence[Item], step: Callable[[Item], Made]) -> AsyncIterator[Made]:
    """Yield what `step` makes of each item; others have their turn every few milliseconds."""
    until = time.monotonic() + TURN_S
    for item in items:
        yield step(item)
        if time.monotonic() > until:
            await asyncio.sleep(0)
            until = time.monotonic() + TURN_S


def _batch_item(
    call: Call, replays: dict[UUID, Json], outcome: Exception | tuple[Submission, Outcome]
) -> bytes:
    if isinstance(outcome, Exception):
        return _problem_item(call, outcome)
    submission, accepted = outcome
    if isinstance(accepted, Exception):
        return _problem_item(call, accepted)
    if accepted.standing is Standing.NEW:
        return b'{"status_code":202,"transaction":%b}' % pending_view(submission, accepted.row)
    if accepted.standing is Standing.CONFLICT:
        return _problem_item(call, conflict(submission.command))
    return orjson.dumps({"status_code": 200, "transaction": replays[accepted.row.id]})


def _problem_item(call: Call, error: Exception) -> bytes:
    path = call.request.rel_url.raw_path
    answer = problem_answer(error, path=path, request_id=call.request_id)
    return orjson.dumps({"status_code": answer.status, "problem": orjson.Fragment(answer.body)})


def _filter_of(call: Call) -> tuple[TransactionFilter, UUID]:
    """Return a list's filter, and the id below which it starts."""
    query = call.query
    start, end = query.moment("from"), query.moment("to")
    wanted = TransactionFilter(
        wallet_id=query.uuid("wallet_id"),
        status=query.word("status", TransactionStatus),
        type=query.word("type", TransactionType),
        first_id=_FIRST_ID if start is None else first_id_at(start),
    )
    return wanted, _LAST_ID if end is None else first_id_at(end)


def _passes(item: Json, wanted: TransactionFilter, before: UUID) -> bool:
    """Whether a transaction found by its name also fits the other filters."""
    wallets = (item["source_wallet_id"], item["destination_wallet_id"])
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


def _id_of(reference: str) -> UUID | None:
    try:
        return id_of_reference(reference)
    except ValueError as error:
        raise ContractError(ProblemCode.INVALID_PARAMETER, f"reference: {error}") from None
