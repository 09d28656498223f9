"""`ackledger dead-letters`: messages that could not be processed, and what becomes of them."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from ops.failures import UsageError
from ops.invocation import settings_of
from ops.output import AsJson, console, print_json, print_table, printable, quiet_logs, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from processor.dead_letters.views import DeadLetterFilter, Outcome

_BODY_SHOWN = 60

Reason: TypeAlias = Annotated[str | None, typer.Option(help="Only of this reason.")]
Submitter: TypeAlias = Annotated[str | None, typer.Option(help="Only of this submitter.")]
Ids: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Which ones, by their ids.")
]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="Every open one.")]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Tell what would become of each, and change nothing.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="List, show, replay and discard dead letters.", no_args_is_help=True)
    group.command("list")(_list)
    group.command("show")(_show)
    group.command("replay")(_replay)
    group.command("discard")(_discard)
    app.add_typer(group, name="dead-letters")


def _list(
    context: typer.Context,
    *,
    reason: Reason = None,
    submitter: Submitter = None,
    state: Annotated[
        Literal["open", "replayed", "discarded", "any"], typer.Option(help="What became of it.")
    ] = "open",
    limit: Annotated[int, typer.Option(min=1, max=200, help="The most on one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="The page's next_cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first, and count them by reason."""
    import asyncio

    from ops.dead_letters import filter_of, id_of, list_page
    from ops.migrating import MigrateSettings

    wanted = filter_of(reason=reason, submitter=submitter, state=state)
    after = None if cursor is None else id_of(cursor)
    settings = settings_of(context, MigrateSettings)
    page = asyncio.run(list_page(settings, wanted, cursor=after, limit=limit))
    if as_json:
        print_json(page)
    else:
        _print_page(page)


def _show(
    context: typer.Context,
    dead_letter: Annotated[str, typer.Argument(metavar="ID", help="Which one.")],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its whole body."""
    import asyncio

    from ops.dead_letters import id_of, show
    from ops.migrating import MigrateSettings

    wanted = id_of(dead_letter)
    letter = asyncio.run(show(settings_of(context, MigrateSettings), wanted))
    if as_json:
        print_json(letter)
        return
    out = console()
    for name, value in letter.items():
        if value is not None and name != "body":
            out.print(f"{name.replace('_', ' '):<15}", style="dim", end="")
            out.print(printable(str(value)))
    out.print()
    out.print(printable(letter["body"]))


def _replay(
    context: typer.Context,
    *,
    ids: Ids = None,
    reason: Reason = None,
    submitter: Submitter = None,
    is_all: All = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give messages another chance, under their keys and submitters; exit 1 if one is refused."""
    meant = _meant(ids, reason=reason, submitter=submitter, is_all=is_all)
    _end(context, meant, is_replay=True, dry_run=dry_run, as_json=as_json)


def _discard(
    context: typer.Context,
    *,
    ids: Ids = None,
    reason: Reason = None,
    submitter: Submitter = None,
    is_all: All = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give messages up: a quarantined transaction becomes FAILED. This cannot be undone."""
    meant = _meant(ids, reason=reason, submitter=submitter, is_all=is_all)
    _end(context, meant, is_replay=False, dry_run=dry_run, as_json=as_json)


def _meant(
    ids: "Sequence[str] | None", *, reason: str | None, submitter: str | None, is_all: bool
) -> "Sequence[UUID] | DeadLetterFilter":
    from ops.dead_letters import filter_of, id_of

    is_filtered = reason is not None or submitter is not None
    if sum((bool(ids), is_filtered, is_all)) != 1:
        raise UsageError("say which: ids, or --reason and --submitter, or --all")
    if ids:
        return [id_of(text) for text in ids]
    return filter_of(reason=reason, submitter=submitter, state="open")


def _end(
    context: typer.Context,
    meant: "Sequence[UUID] | DeadLetterFilter",
    *,
    is_replay: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    import asyncio

    from ops.dead_letters import end
    from ops.migrating import MigrateSettings

    quiet_logs()
    settings = settings_of(context, MigrateSettings)
    outcomes = end(settings, meant, is_replay=is_replay, dry_run=dry_run)
    counts = asyncio.run(_report(outcomes, dry_run=dry_run, as_json=as_json))
    raise typer.Exit(code=1 if counts.get("refused") else 0)


async def _report(
    outcomes: "AsyncIterator[Outcome]", *, dry_run: bool, as_json: bool
) -> dict[str, int]:
    """Print what became of each as it comes; with JSON, all of it at the end."""
    items: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    async for outcome in outcomes:
        item = outcome.to_json()
        counts[item["outcome"]] = counts.get(item["outcome"], 0) + 1
        if as_json:
            items.append(item)
        else:
            typer.echo(f"{item['id']}  {item['outcome']}: {item['detail']}")
    if as_json:
        print_json({"dry_run": dry_run, "counts": counts, "items": items})
    else:
        total = ", ".join(f"{count} {name}" for name, count in counts.items()) or "none is meant"
        say(f"{total}{' (dry run: nothing was changed)' if dry_run else ''}")
    return counts


def _print_page(page: dict[str, Any]) -> None:
    items = page["items"]
    if not items:
        say("there are none")
        return
    columns = ("id", "first_seen_at", "state", "reason", "submitter", "body")
    rows = [
        [str(letter[name] or "")[:_BODY_SHOWN].replace("\n", " ") for name in columns]
        for letter in items
    ]
    print_table([name.replace("_", " ") for name in columns], rows)
    counts = ", ".join(f"{count} {reason}" for reason, count in page["by_reason"].items())
    say(f"in all: {counts}")
    if page["next_cursor"]:
        say(f"there are more: --cursor {page['next_cursor']}")
