"""The calls on dead letters: list, count, read, replay, discard; for operators."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, TypeAlias
from uuid import UUID

from aiohttp import web

from contracts.dead_letters import (
    ENDED_DEFAULT,
    ENDED_MAX,
    NOTE_MAX,
    DeadLetterFate,
    DeadLetterState,
)
from contracts.messages import DeadLetterReason
from contracts.problems import ContractError, ProblemCode
from dead_letters.model import DeadLetterFilter, DeadLetterNotFoundError, DeadLetterOutcome
from dead_letters.operations import BEFORE_ALL, DeadLetters
from ingress.http.middleware import Call, json_response, page_response
from ingress.parsing import uuid_of

ENDING_S_MAX: Final = 10.0
"""A call that ends many begins no further one after this long: clients and proxies wait."""
IDS_MAX: Final = 10_000
"""Ids of transactions in one answer, about: a dead letter may name a thousand."""
ENDING_CALLS_MAX: Final = 2
"""Calls that end many at once: each holds a database connection, which submissions need."""

Act: TypeAlias = Callable[..., Awaitable[DeadLetterOutcome]]
End: TypeAlias = Callable[[UUID], Awaitable[DeadLetterOutcome]]


class DeadLetterCalls:
    """Dead letters over HTTP; the actor in the audit log is the API key's client."""

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._letters = dead_letters
        self._turns = asyncio.Semaphore(ENDING_CALLS_MAX)

    async def list_page(self, call: Call) -> web.Response:
        """GET /v1/dead-letters."""
        query = call.query
        page = await self._letters.page(
            replace(
                _filter(call, state=query.word("state", DeadLetterState)),
                transaction_id=query.uuid("transaction_id"),
            ),
            cursor=query.id_position("dead-letters"),
            limit=query.limit(),
        )
        items = [letter.to_json() for letter in page.items]
        return page_response(items, query.cursor("dead-letters", page.next_cursor))

    async def summarize(self, call: Call) -> web.Response:
        """GET /v1/dead-letters/summary."""
        wanted = _filter(call, state=call.query.word("state", DeadLetterState))
        counts = await self._letters.count_by_reason(wanted)
        return json_response({"by_reason": counts.by_reason, "is_complete": counts.is_complete})

    async def group(self, call: Call) -> web.Response:
        """GET /v1/dead-letters/groups."""
        wanted = _filter(call, state=call.query.word("state", DeadLetterState))
        groups = await self._letters.groups(wanted)
        return json_response(
            {
                "items": [group.to_json() for group in groups.items],
                "is_complete": groups.is_complete,
            }
        )

    async def read(self, call: Call) -> web.Response:
        """GET /v1/dead-letters/{dead_letter_id}."""
        try:
            letter = await self._letters.show(_dead_letter_id(call))
        except DeadLetterNotFoundError as error:
            raise _not_found(error) from None
        return json_response(letter.to_json())

    async def replay(self, call: Call) -> web.Response:
        """POST /v1/dead-letters/{dead_letter_id}/replay."""
        return await self._end_one(call, _ending(call, self._letters.replay))

    async def discard(self, call: Call) -> web.Response:
        """POST /v1/dead-letters/{dead_letter_id}/discard."""
        return await self._end_one(call, _ending(call, _discarding(call, self._letters)))

    async def replay_many(self, call: Call) -> web.Response:
        """POST /v1/dead-letters/replay."""
        end = _ending(call, self._letters.replay)
        return await self._end_many(call, "dead-letters-replay", end)

    async def discard_many(self, call: Call) -> web.Response:
        """POST /v1/dead-letters/discard."""
        end = _ending(call, _discarding(call, self._letters))
        return await self._end_many(call, "dead-letters-discard", end)

    async def _end_one(self, call: Call, end: End) -> web.Response:
        _refuse_body(call)
        try:
            outcome = await end(_dead_letter_id(call))
        except DeadLetterNotFoundError as error:
            raise _not_found(error) from None
        if outcome.fate is DeadLetterFate.UNCHANGED:
            raise ContractError(ProblemCode.DEAD_LETTER_ENDED, outcome.detail)
        if outcome.fate is DeadLetterFate.REFUSED:
            raise ContractError(ProblemCode.DEAD_LETTER_REFUSED, outcome.detail)
        return json_response(outcome.to_json())

    async def _end_many(self, call: Call, listing: str, end: End) -> web.Response:
        _refuse_body(call)
        wanted, query = _meant(call), call.query
        limit = query.limit(default=ENDED_DEFAULT, most=ENDED_MAX)
        after = query.id_position(listing) or BEFORE_ALL
        async with self._turns:
            window = await self._letters.window(wanted, after=after, limit=limit)
            outcomes = await _each(window.matches, end)
        is_all = len(outcomes) == len(window.matches)
        following = window.next_start if is_all else outcomes[-1].dead_letter_id
        return json_response(
            {
                "dry_run": query.flag("dry_run"),
                "counts": Counter(outcome.fate.value for outcome in outcomes),
                "items": [outcome.to_json() for outcome in outcomes],
                "next_cursor": query.cursor(listing, following),
            }
        )


def _discarding(call: Call, letters: DeadLetters) -> Act:
    """Return what discards one with the call's note; raises ContractError for a bad one."""
    note = call.query.text("note")
    if note is not None and len(note) > NOTE_MAX:
        raise ContractError(
            ProblemCode.INVALID_PARAMETER, f"note: has more than {NOTE_MAX} characters"
        )
    return partial(letters.discard, note=note)


def _ending(call: Call, act: Act) -> End:
    """Return what ends one dead letter for this caller; raises ContractError for a bad dry_run."""
    trail = call.trail
    return partial(
        act,
        actor=trail.actor,
        address=trail.address,
        request_id=trail.request_id,
        dry_run=call.query.flag("dry_run"),
    )


async def _each(ids: Sequence[UUID], end: End) -> list[DeadLetterOutcome]:
    """End one after the other; at least the first, and not all when that takes too long."""
    outcomes: list[DeadLetterOutcome] = []
    named = 0
    clock = asyncio.get_running_loop().time
    until = clock() + ENDING_S_MAX
    for dead_letter_id in ids:
        if outcomes and (clock() >= until or named >= IDS_MAX):
            break
        outcomes.append(await end(dead_letter_id))
        named += len(outcomes[-1].transaction_ids)
    return outcomes


def _filter(call: Call, *, state: DeadLetterState | None) -> DeadLetterFilter:
    return DeadLetterFilter(
        reason=call.query.word("reason", DeadLetterReason),
        submitter=call.query.text("submitter"),
        state=state,
        fingerprint=call.query.text("fingerprint"),
        until=call.query.moment("until"),
    )


def _meant(call: Call) -> DeadLetterFilter:
    """Return which open ones are meant; nobody ends all of them by leaving something out."""
    wanted = _filter(call, state=DeadLetterState.OPEN)
    named = (wanted.reason, wanted.submitter, wanted.fingerprint)
    if call.query.flag("all") == any(one is not None for one in named):
        raise ContractError(
            ProblemCode.INVALID_PARAMETER,
            "say which: reason, submitter and fingerprint, or all=true",
        )
    return wanted


def _refuse_body(call: Call) -> None:
    """A dry run asked for in a body that nobody reads would be no dry run."""
    if call.request.can_read_body:
        raise ContractError(
            ProblemCode.INVALID_PARAMETER, "this call takes no body: use query parameters"
        )


def _dead_letter_id(call: Call) -> UUID:
    return uuid_of("dead_letter_id", call.request.match_info["dead_letter_id"])


def _not_found(error: DeadLetterNotFoundError) -> ContractError:
    return ContractError(ProblemCode.DEAD_LETTER_NOT_FOUND, str(error))
