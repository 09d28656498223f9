"""`ackledger reviews`: transactions that a rule holds back, and what operators decide."""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from uuid import UUID

import typer

from cli.failures import RefusedError, UsageError
from cli.invocation import settings_of
from cli.output import AsJson, print_json, print_line, print_table, quiet_logs, say
from ledger.words import ReviewState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import TypeVar

    from runtime.screening.reviews import Reviews

    Answer = TypeVar("Answer")

Id: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="Which review.")]
Reason: TypeAlias = Annotated[str, typer.Option(help="Why; it stays in the audit log.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="List, approve and refuse what rules hold back.", no_args_is_help=True)
    group.command("list")(_list)
    group.command("approve")(_approve)
    group.command("refuse")(_refuse)
    app.add_typer(group, name="reviews")


def _list(
    context: typer.Context,
    *,
    state: Annotated[ReviewState | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="The most on one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="The page's next_cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """List reviews, newest first."""
    before = None if cursor is None else _id(cursor)
    page = _with_reviews(context, lambda reviews: reviews.page(state, before=before, limit=limit))
    following = None if page.next_cursor is None else str(page.next_cursor)
    if as_json:
        print_json({"items": page.items, "next_cursor": following})
        return
    columns = (
        *("id", "created_at", "state", "rule", "transaction_id", "submitter", "type"),
        *("amount", "currency", "decided_by", "reason"),
    )
    if page.items:
        rows = [[str(one[name] or "") for name in columns] for one in page.items]
        print_table([name.replace("_", " ") for name in columns], rows)
    else:
        say("there are none")
    if following:
        say(f"there are more: --cursor {following}")


def _approve(
    context: typer.Context, review: Id, *, reason: Reason, as_json: AsJson = False
) -> None:
    """Overrule the rule: the transaction is posted, unless something else refuses it."""
    _decide(context, review, reason, is_approval=True, as_json=as_json)


def _refuse(context: typer.Context, review: Id, *, reason: Reason, as_json: AsJson = False) -> None:
    """End the transaction, with all of its atomic batch, as FAILED."""
    _decide(context, review, reason, is_approval=False, as_json=as_json)


def _decide(
    context: typer.Context, review: str, reason: str, *, is_approval: bool, as_json: bool
) -> None:
    from cli.actor import login_actor
    from contracts.requests.validators import DESCRIPTION_MAX
    from runtime.postgres.audit import Trail

    review_id, why = _id(review), reason.strip()
    if not 0 < len(why) <= DESCRIPTION_MAX or "\x00" in why:
        raise UsageError(f"--reason: 1 to {DESCRIPTION_MAX} characters")

    async def decide(reviews: "Reviews") -> "Mapping[str, Any]":
        act = reviews.approve if is_approval else reviews.refuse
        return await act(review_id, reason=why, trail=Trail(login_actor()))

    decided = _with_reviews(context, decide, is_publishing=is_approval)
    if as_json:
        print_json(decided)
        return
    print_line(f"{decided['transaction_id']}: {decided['state']}, {decided['transaction_status']}")


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a review's id") from None


def _with_reviews(
    context: typer.Context,
    work: "Callable[[Reviews], Awaitable[Answer]]",
    *,
    is_publishing: bool = False,
) -> "Answer":
    import asyncio

    from cli.migrating import MigrateSettings
    from cli.operating import operating
    from runtime.screening.reviews import ReviewDecidedError, ReviewNotFoundError, Reviews

    quiet_logs()
    settings = settings_of(context, MigrateSettings)

    async def run() -> "Answer":
        async with operating(settings, name="reviews", is_publishing=is_publishing) as (
            pool,
            publisher,
        ):
            partitions = settings.partitions
            return await work(Reviews(pool=pool, publisher=publisher, partitions=partitions))

    try:
        return asyncio.run(run())
    except (ReviewNotFoundError, ReviewDecidedError) as error:
        raise RefusedError(str(error)) from error
