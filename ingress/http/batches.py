"""The call that submits many transactions at once: each by itself, or all or none."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

import orjson
from aiohttp import web

from contracts.problems import ContractError, FieldError, ProblemCode
from contracts.rate_limits import LimitClass
from contracts.record import Submission
from contracts.representations.transaction import Json, Row, new_view, render_wallet_after
from contracts.requests.parties import parties_of_command
from contracts.requests.references import atomic, other_id, resolved
from contracts.requests.transaction import (
    BATCH_MAX,
    BatchMode,
    TransactionCommand,
    command_of,
    refuse_unknown,
)
from contracts.scopes import Reach
from ingress.access import Guard
from ingress.authentication import Client
from ingress.calls import RETRY, Answer, Services, conflict, own_request_id, permit
from ingress.http.middleware import Call, json_response, response_of
from ingress.http.problems import problem_answer
from ingress.limits.limiter import class_of_type
from ingress.reads.preview import Previewer
from ingress.submit.admission import backlog_full
from ingress.submit.recorder import Accepted, Outcome, Standing, count_standing
from ledger.post import REFUSAL_DETAILS
from ledger.state import WalletState
from ledger.words import FailureCode, TransactionStatus

TURN_S: Final = 0.005
"""A batch works on its items for so long at a time: a batch of a thousand invalid ones takes a
tenth of a second, and a single submission meanwhile must not wait for it."""
Item = TypeVar("Item")
Made = TypeVar("Made")

_KEY_CODES: Final = frozenset(
    {ProblemCode.IDEMPOTENCY_KEY_MISSING, ProblemCode.IDEMPOTENCY_KEY_INVALID}
)


class BatchCalls:
    """Submit batches, and say what one would come to."""

    def __init__(self, services: Services, *, previewer: Previewer) -> None:
        self._services = services
        self._previewer = previewer

    async def submit(self, call: Call) -> web.Response:
        """POST /v1/transactions/batch."""
        items, mode = batch_of(await call.json())
        await call.count.take(_costs_of(items))
        commands = await commands_of(items, client=call.client, services=self._services)
        if self._services.backlog.is_full:
            raise backlog_full()
        if mode is BatchMode.ATOMIC:
            body = await self._submit_atomic(call, whole(commands))
        else:
            body = await self._submit_each(call, commands)
        return response_of(Answer(202, body, RETRY))

    async def preview(self, call: Call) -> web.Response:
        """POST /v1/transactions/preview: of one transaction, or of a batch."""
        body = await call.json()
        # Each is decided as if it were posted, and none of them counts as one that is.
        await call.count.take(requests=_previews(body))
        commands = await _previewed(body, client=call.client, services=self._services)
        found = await self._previewer.preview(commands)
        wallets = await self._seen(call.client, found.wallets)
        return json_response(
            {
                "transactions": [_previewed_view(one) for one in found.failures],
                "wallets": [render_wallet_after(one) for one in wallets],
            }
        )

    async def _seen(self, client: Client, wallets: Sequence[WalletState]) -> Sequence[WalletState]:
        """Return those of some wallets whose balances a client sees."""
        if client.reach is Reach.ALL:
            return wallets
        theirs = await self._services.guard.theirs(client, [one.wallet_id for one in wallets])
        return [one for one in wallets if one.wallet_id in theirs]

    async def _submit_atomic(self, call: Call, commands: Sequence[TransactionCommand]) -> bytes:
        members = atomic(commands, submitter=call.client.name)
        submissions = _submissions(call, members)
        accepted = await self._services.recorder.accept_atomic(submissions)
        for one in accepted:
            count_standing(one.standing)
        outcomes = list(zip(submissions, accepted, strict=True))
        return await _items_body(
            outcomes, partial(_item, call, await self._replays(call.client, accepted))
        )

    async def _submit_each(
        self, call: Call, commands: Sequence[TransactionCommand | ContractError]
    ) -> bytes:
        submissions = _submissions(
            call, [one for one in commands if isinstance(one, TransactionCommand)]
        )
        accepted = await self._services.recorder.accept(submissions)
        for one in accepted:
            if isinstance(one, Accepted):
                count_standing(one.standing)
        recorded = zip(submissions, accepted, strict=True)
        outcomes: list[Exception | tuple[Submission, Outcome]] = [
            command if isinstance(command, Exception) else next(recorded) for command in commands
        ]
        views = await self._replays(call.client, accepted)
        return await _items_body(outcomes, partial(_item, call, views))

    async def _replays(self, client: Client, accepted: Sequence[Outcome]) -> Mapping[UUID, Json]:
        """Return the transactions that were recorded before, by their ids, as they are now."""
        ids = [
            one.row.id
            for one in accepted
            if isinstance(one, Accepted) and one.standing is Standing.REPLAY
        ]
        return await self._services.views(client, ids)


def batch_of(body: Any) -> tuple[list[Any], BatchMode]:
    """Return the items of a batch request, not looked at, and its mode; raises ContractError."""
    if not isinstance(body, dict):
        raise ContractError.invalid_fields([FieldError("", "a JSON object is expected")])
    refuse_unknown(body, {"transactions", "mode"})
    mode = body.get("mode", BatchMode.INDEPENDENT)
    if mode not in list(BatchMode):
        raise ContractError.invalid_fields(
            [FieldError("/mode", f"is one of {', '.join(BatchMode)}")]
        )
    if not isinstance(body.get("transactions"), list):
        raise ContractError.invalid_fields([FieldError("/transactions", "a list is expected")])
    items: list[Any] = body["transactions"]
    if not 1 <= len(items) <= BATCH_MAX:
        raise ContractError.invalid_fields(
            [FieldError("/transactions", f"1 to {BATCH_MAX} transactions, not {len(items)}")]
        )
    return items, BatchMode(mode)


def _costs_of(items: Sequence[Any]) -> Mapping[LimitClass, int]:
    """Return how many transactions of each class of limits there are."""
    return Counter(class_of_type(item.get("type")) for item in items if isinstance(item, dict))


async def commands_of(
    items: Sequence[Any], *, client: Client, services: Services
) -> list[TransactionCommand | ContractError]:
    """Return the command of each item, or what is wrong with it, in their order.

    The transactions that items name are read in one query, and so is whose wallets they need.
    """
    commands = [one async for one in _each_in_turn(items, partial(_command_or_problem, client))]
    named = {
        other
        for command in commands
        if isinstance(command, TransactionCommand) and (other := other_id(command)) is not None
    }
    others = await services.store.rows(list(named)) if named else {}
    if client.reach is not Reach.ALL:
        commands = await _judged(commands, others, client=client, guard=services.guard)
    return [_resolved_or_problem(one, others) for one in commands] if named else commands


async def _judged(
    commands: Sequence[TransactionCommand | ContractError],
    others: Mapping[UUID, Row],
    *,
    client: Client,
    guard: Guard,
) -> list[TransactionCommand | ContractError]:
    """Return commands, with a problem in the place of each that the client may not ask for."""
    parties = {
        place: parties_of_command(one, others.get(other_id(one) or UUID(int=0)))
        for place, one in enumerate(commands)
        if isinstance(one, TransactionCommand)
    }
    theirs = await guard.theirs(client, {one for each in parties.values() for one in each.needed})
    judged = list(commands)
    for place, needed in parties.items():
        try:
            guard.judge(client, needed, theirs)
        except ContractError as error:
            judged[place] = error
    return judged


async def _previewed(body: Any, *, client: Client, services: Services) -> list[TransactionCommand]:
    """Return the commands of a body that need no key; raises ContractError for any fault."""
    is_batch = isinstance(body, dict) and "transactions" in body
    items, mode = batch_of(body) if is_batch else ([body], BatchMode.INDEPENDENT)
    named = [_named(item, place) for place, item in enumerate(items)]
    found = await commands_of(named, client=client, services=services)
    if not is_batch and isinstance(found[0], ContractError):
        raise found[0]
    commands = whole(found)
    return atomic(commands, submitter=client.name) if mode is BatchMode.ATOMIC else commands


def _previews(body: Any) -> int:
    """Return how many transactions a body asks a preview of, as far as that can be seen."""
    items = body.get("transactions") if isinstance(body, dict) else None
    return max(1, len(items)) if isinstance(items, list) else 1


def _named(item: Any, place: int) -> Any:
    """Return an item that has a key of its own, or is no transaction."""
    if not isinstance(item, dict) or item.get("idempotency_key") is not None:
        return item
    return {**item, "idempotency_key": f"preview-{place}"}


def _previewed_view(code: FailureCode | None) -> Json:
    if code is None:
        return {"status": TransactionStatus.COMPLETED, "failure": None}
    failure = {"code": code, "detail": REFUSAL_DETAILS[code]}
    return {"status": TransactionStatus.FAILED, "failure": failure}


def whole(commands: Sequence[TransactionCommand | ContractError]) -> list[TransactionCommand]:
    """Return the commands where none is a problem; raises ContractError with all that is wrong."""
    faults: list[FieldError] = []
    valid: list[TransactionCommand] = []
    for place, command in enumerate(commands):
        if isinstance(command, TransactionCommand):
            valid.append(command)
        elif command.code is ProblemCode.VALIDATION_FAILED:
            faults += [
                replace(error, pointer=f"/transactions/{place}{error.pointer}")
                for error in command.errors
            ]
        elif command.code in _KEY_CODES:
            pointer = f"/transactions/{place}/idempotency_key"
            faults.append(FieldError(pointer, command.detail))
        else:
            raise command
    if faults:
        raise ContractError.invalid_fields(faults)
    return valid


def _command_or_problem(client: Client, item: Any) -> TransactionCommand | ContractError:
    try:
        command = command_of(item)
        if command.terms is not None:
            permit(client, command.terms)
    except ContractError as error:
        return error
    return command


def _resolved_or_problem(
    command: TransactionCommand | ContractError, others: Mapping[UUID, Row]
) -> TransactionCommand | ContractError:
    if isinstance(command, ContractError):
        return command
    other = other_id(command)
    try:
        return command if other is None else resolved(command, others.get(other))
    except ContractError as error:
        return error


def _submissions(call: Call, commands: Sequence[TransactionCommand]) -> list[Submission]:
    name, own_id, trace = call.client.name, own_request_id(call.names), call.names[0]
    return [Submission(name, command, own_id, trace) for command in commands]


async def _items_body(outcomes: Sequence[Item], write: Callable[[Item], bytes]) -> bytes:
    """Return an item for each outcome."""
    return b'{"items":[%b]}' % b",".join([item async for item in _each_in_turn(outcomes, write)])


async def _each_in_turn(items: Sequence[Item], step: Callable[[Item], Made]) -> AsyncIterator[Made]:
    """Yield what `step` makes of each item; others have their turn every few milliseconds."""
    until = time.monotonic() + TURN_S
    for item in items:
        yield step(item)
        if time.monotonic() > until:
            await asyncio.sleep(0)
            until = time.monotonic() + TURN_S


def _item(
    call: Call, views: Mapping[UUID, Json], outcome: Exception | tuple[Submission, Outcome]
) -> bytes:
    if isinstance(outcome, Exception):
        return _problem_item(call, outcome)
    submission, accepted = outcome
    if isinstance(accepted, Exception):
        return _problem_item(call, accepted)
    if accepted.standing is Standing.CONFLICT:
        return _problem_item(call, conflict(submission.command))
    if accepted.standing is Standing.NEW:
        return b'{"status_code":202,"transaction":%b}' % new_view(submission, accepted.row)
    return orjson.dumps({"status_code": 200, "transaction": views[accepted.row.id]})


def _problem_item(call: Call, error: Exception) -> bytes:
    path = call.request.rel_url.raw_path
    answer = problem_answer(error, path=path, names=call.names)
    return orjson.dumps({"status_code": answer.status, "problem": orjson.Fragment(answer.body)})
