"""`ackledger dead-letters`: messages that could not be processed, and what becomes of them."""

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from cli.failures import UsageError
from cli.invocation import settings_of
from cli.output import (
    AsJson,
    console,
    print_json,
    print_line,
    print_table,
    printable,
    quiet_logs,
    say,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from uuid import UUID

    from cli.dead_letters import Progress
    from dead_letters.model import DeadLetterFilter, DeadLetterOutcome

_BODY_SHOWN = 60
_BAR_FROM = 20
"""Fewer are done before anybody reads a bar."""

Reason: TypeAlias = Annotated[str | None, typer.Option(help="Only of this reason.")]
Submitter: TypeAlias = Annotated[str | None, typer.Option(help="Only of this submitter.")]
Fingerprint: TypeAlias = Annotated[
    str | None, typer.Option(help="Only of this group, which says the same.")
]
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
    fingerprint: Fingerprint = None,
    state: Annotated[
        Literal["open", "replayed", "discarded", "any"], typer.Option(help="What became of it.")
    ] = "open",
    limit: Annotated[int, typer.Option(min=1, max=200, help="The most on one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="The page's next_cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first, and count them by reason."""
    import asyncio

    from cli.dead_letters import filter_of, id_of, list_page
    from cli.migrating import MigrateSettings

    wanted = filter_of(reason=reason, submitter=submitter, fingerprint=fingerprint, state=state)
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
    *,
    only_body: Annotated[
        bool, typer.Option("--body", help="Write the whole body, byte for byte, and nothing else.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter, with its body up to 1 MiB; bytes that are no text as base64."""
    import asyncio

    import orjson

    from cli.dead_letters import body, id_of, show
    from cli.migrating import MigrateSettings

    if only_body and as_json:
        raise UsageError("say one of --body and --json")
    wanted = id_of(dead_letter)
    settings = settings_of(context, MigrateSettings)
    if only_body:
        sys.stdout.buffer.write(asyncio.run(body(settings, wanted)))
        return
    letter = asyncio.run(show(settings, wanted))
    if as_json:
        print_json(letter)
        return
    out = console()
    for name, value in letter.items():
        if value is not None and name != "body":
            out.print(f"{name.replace('_', ' '):<15}", style="dim", end="")
            out.print(printable(value if isinstance(value, str) else orjson.dumps(value).decode()))
    out.print()
    out.print(printable(letter["body"]))
    if not letter["is_body_whole"]:
        say(f"that is its beginning; all {letter['body_bytes']} bytes: --body")


def _replay(
    context: typer.Context,
    *,
    ids: Ids = None,
    reason: Reason = None,
    submitter: Submitter = None,
    fingerprint: Fingerprint = None,
    is_all: All = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give messages another chance, under their keys and submitters; exit 1 if one is refused."""
    meant = _meant(ids, reason=reason, submitter=submitter, fingerprint=fingerprint, is_all=is_all)
    _end(context, meant, is_replay=True, dry_run=dry_run, as_json=as_json)


def _discard(
    context: typer.Context,
    *,
    ids: Ids = None,
    reason: Reason = None,
    submitter: Submitter = None,
    fingerprint: Fingerprint = None,
    is_all: All = False,
    note: Annotated[str | None, typer.Option(help="Why, for the audit log.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Give messages up: a quarantined transaction becomes FAILED. This cannot be undone."""
    meant = _meant(ids, reason=reason, submitter=submitter, fingerprint=fingerprint, is_all=is_all)
    _end(context, meant, is_replay=False, dry_run=dry_run, note=note, as_json=as_json)


def _meant(
    ids: "Sequence[str] | None",
    *,
    reason: str | None,
    submitter: str | None,
    fingerprint: str | None,
    is_all: bool,
) -> "Sequence[UUID] | DeadLetterFilter":
    from cli.dead_letters import filter_of, id_of

    is_filtered = any(one is not None for one in (reason, submitter, fingerprint))
    if sum((bool(ids), is_filtered, is_all)) != 1:
        raise UsageError("say which: ids, or --reason, --submitter and --fingerprint, or --all")
    if ids:
        return [id_of(text) for text in ids]
    return filter_of(reason=reason, submitter=submitter, fingerprint=fingerprint, state="open")


def _end(
    context: typer.Context,
    meant: "Sequence[UUID] | DeadLetterFilter",
    *,
    is_replay: bool,
    dry_run: bool,
    as_json: bool,
    note: str | None = None,
) -> None:
    import asyncio

    from cli.dead_letters import end
    from cli.migrating import MigrateSettings

    quiet_logs()
    settings = settings_of(context, MigrateSettings)
    with _progress("replaying" if is_replay else "discarding") as progress:
        outcomes = end(
            settings, meant, is_replay=is_replay, dry_run=dry_run, note=note, progress=progress
        )
        counts = asyncio.run(_report(outcomes, dry_run=dry_run, as_json=as_json))
    raise typer.Exit(code=1 if counts.get("refused") else 0)


@contextmanager
def _progress(what: str) -> "Iterator[Progress | None]":
    """Give what moves a bar on standard error; nothing where that is no terminal."""
    out = console(is_error=True)
    if not out.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=out,
        transient=True,
        # What is printed meanwhile stands above the bar; a file or a pipe is not the bar's affair.
        redirect_stdout=sys.stdout.isatty(),
    )
    with bar:
        task = bar.add_task(what, total=None, visible=False)
        yield lambda done, total: bar.update(
            task, completed=done, total=total, visible=total >= _BAR_FROM
        )


async def _report(
    outcomes: "AsyncIterator[DeadLetterOutcome]", *, dry_run: bool, as_json: bool
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
            print_line(f"{item['id']}  {item['outcome']}: {item['detail']}")
    if as_json:
        print_json({"dry_run": dry_run, "counts": counts, "items": items})
    else:
        total = ", ".join(f"{count} {name}" for name, count in counts.items()) or "none is meant"
        say(f"{total}{' (dry run: nothing was changed)' if dry_run else ''}")
    return counts


def _print_page(page: dict[str, Any]) -> None:
    items = page["items"]
    columns = ("id", "first_seen_at", "state", "reason", "submitter", "body")
    if items:
        rows = [
            [str(letter[name] or "")[:_BODY_SHOWN].replace("\n", " ") for name in columns]
            for letter in items
        ]
        print_table([name.replace("_", " ") for name in columns], rows)
    counts = ", ".join(f"{count} {reason}" for reason, count in page["by_reason"].items())
    scope = "in all" if page["is_complete"] else "among the newest"
    say(f"{scope}: {counts}" if counts else "there are none")
    if page["next_cursor"]:
        say(f"there are more: --cursor {page['next_cursor']}")
