"""Dead letters for operators: one session with the database and, for replays, the broker."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias
from uuid import UUID

from cli.actor import login_actor
from cli.failures import RefusedError, UsageError
from cli.migrating import MigrateSettings
from cli.operating import operating
from contracts.dead_letters import DeadLetterState
from contracts.messages import DeadLetterReason
from dead_letters.model import DeadLetterFilter, DeadLetterNotFoundError, DeadLetterOutcome
from dead_letters.operations import DeadLetters

ANY: Final = "any"

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many are done, of how many."""


def filter_of(
    *, reason: str | None, submitter: str | None, state: str, fingerprint: str | None = None
) -> DeadLetterFilter:
    """Return the filter of a command's options; raises UsageError for a word that is none."""
    return DeadLetterFilter(
        reason=None if reason is None else _word(DeadLetterReason, reason, "reason"),
        submitter=submitter,
        state=None if state == ANY else DeadLetterState(_word(DeadLetterState, state, "state")),
        fingerprint=fingerprint,
    )


def _word(kind: type[DeadLetterReason | DeadLetterState], text: str, what: str) -> str:
    words = [word.value for word in kind]
    if text not in words:
        raise UsageError(f"'{text}' is no {what}; there are: {', '.join(words)}")
    return text


def id_of(text: str) -> UUID:
    """Return a dead letter's id; raises UsageError."""
    try:
        return UUID(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a dead letter's id") from None


@asynccontextmanager
async def dead_letters(
    settings: MigrateSettings, *, is_publishing: bool = False
) -> AsyncIterator[DeadLetters]:
    """Give the operations; raises CommandError for what an operator can mend."""
    partitions = settings.partitions
    try:
        async with operating(settings, name="dead-letters", is_publishing=is_publishing) as (
            pool,
            publisher,
        ):
            yield DeadLetters(pool=pool, publisher=publisher, partitions=partitions)
    except DeadLetterNotFoundError as error:
        raise RefusedError(str(error)) from error


async def list_page(
    settings: MigrateSettings, wanted: DeadLetterFilter, *, cursor: UUID | None, limit: int
) -> dict[str, Any]:
    """Return one page as JSON, newest first, with the count for each reason."""
    async with dead_letters(settings) as operations:
        page = await operations.page(wanted, cursor=cursor, limit=limit)
        counts = await operations.count_by_reason(wanted)
    return {
        "items": [letter.to_json() for letter in page.items],
        "next_cursor": None if page.next_cursor is None else str(page.next_cursor),
        "by_reason": counts.by_reason,
        "is_complete": counts.is_complete,
    }


async def show(settings: MigrateSettings, dead_letter_id: UUID) -> dict[str, Any]:
    """Return one as JSON, with its body as far as the contract shows it."""
    async with dead_letters(settings) as operations:
        return (await operations.show(dead_letter_id)).to_json()


async def body(settings: MigrateSettings, dead_letter_id: UUID) -> bytes:
    """Return the whole body of one, as it came."""
    async with dead_letters(settings) as operations:
        return await operations.body(dead_letter_id)


async def end(
    settings: MigrateSettings,
    meant: Sequence[UUID] | DeadLetterFilter,
    *,
    is_replay: bool,
    dry_run: bool,
    note: str | None = None,
    progress: Progress | None = None,
) -> AsyncIterator[DeadLetterOutcome]:
    """Replay or discard what is meant, oldest first, and yield what became of each.

    `note` says why it is discarded.
    """
    actor = login_actor()
    async with dead_letters(settings, is_publishing=is_replay and not dry_run) as operations:
        act = operations.replay if is_replay else partial(operations.discard, note=note)
        ids = operations.select(meant) if isinstance(meant, DeadLetterFilter) else _each(meant)
        total = await _total(operations, meant) if progress is not None else 0
        done = 0
        async for dead_letter_id in ids:
            yield await act(dead_letter_id, actor=actor, dry_run=dry_run)
            done += 1
            if progress is not None:
                progress(done, max(done, total))


async def _total(operations: DeadLetters, meant: Sequence[UUID] | DeadLetterFilter) -> int:
    if isinstance(meant, DeadLetterFilter):
        return sum((await operations.count_by_reason(meant)).by_reason.values())
    return len(meant)


async def _each(ids: Sequence[UUID]) -> AsyncIterator[UUID]:
    for one in ids:
        yield one
