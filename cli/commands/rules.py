"""`ackledger rules`: what refuses, flags or holds back transactions, and trials on history."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from cli.failures import UsageError
from cli.invocation import on_database
from cli.output import AsJson, console, print_json, print_line, print_table, say
from ledger.words import RuleAction, RuleKind, RuleSubject, TransactionType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cli.dependencies import Connection
    from cli.rules import StoredRule
    from runtime.screening.trial import Progress, TrialReport

_DAYS_TRIED = 30

By: TypeAlias = Annotated[RuleSubject | None, typer.Option(help="velocity: what it counts by.")]
WindowText: TypeAlias = Annotated[
    str | None, typer.Option(help="velocity: 1m to 30d, such as 90s, 15m, 1h.")
]
CountMax: TypeAlias = Annotated[
    int | None, typer.Option(min=0, help="velocity: the most transactions of a window.")
]
SumMax: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="EUR=AMOUNT", help="velocity: the most money of a window."),
]
Least: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="EUR=AMOUNT", help="amount: the least of one.")
]
Most: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="EUR=AMOUNT", help="amount: the most of one.")
]
Types: TypeAlias = Annotated[
    list[TransactionType] | None, typer.Option("--type", help="Only these types.")
]
Wallets: TypeAlias = Annotated[
    list[str] | None, typer.Option("--wallet", help="Only these wallets.")
]
Owners: TypeAlias = Annotated[list[str] | None, typer.Option("--owner", help="Only these owners.")]
Clients: TypeAlias = Annotated[
    list[str] | None, typer.Option("--client", help="Only of these submitters.")
]
Currencies: TypeAlias = Annotated[
    list[str] | None, typer.Option("--currency", help="Only in these currencies.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Add, try, enable and disable rules against fraud.", no_args_is_help=True
    )
    group.command("add")(_add)
    group.command("list")(_list)
    group.command("enable")(_enable)
    group.command("disable")(_disable)
    group.command("test")(_test)
    app.add_typer(group, name="rules")


def _add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="1 to 63 of a-z, 0-9, '_', '.' and '-'.")],
    *,
    kind: Annotated[RuleKind, typer.Option(help="What it looks at.")],
    action: Annotated[RuleAction, typer.Option(help="What becomes of what it hits.")],
    by: By = None,
    window: WindowText = None,
    count_max: CountMax = None,
    sum_max: SumMax = None,
    least: Least = None,
    most: Most = None,
    types: Types = None,
    wallets: Wallets = None,
    owners: Owners = None,
    clients: Clients = None,
    currencies: Currencies = None,
    as_json: AsJson = False,
) -> None:
    """Add a rule. It enforces nothing yet: try it with `rules test`, then `rules enable` it.

    What a rule says is never changed: for another one add another.
    """
    from cli.actor import login_actor
    from cli.rules import RuleOrder, add_rule

    order = RuleOrder(
        name=name,
        kind=kind,
        action=action,
        by=by,
        window=window,
        count_max=count_max,
        sum_max=sum_max or (),
        least=least or (),
        most=most or (),
        types=types or (),
        wallets=wallets or (),
        owners=owners or (),
        clients=clients or (),
        currencies=currencies or (),
    )
    rule = on_database(
        context,
        "rules",
        lambda connection: add_rule(connection, order, actor=login_actor()),
        knows_assets=True,
    )
    _print(rule, f"rule '{name}' added; it is enforced once it is enabled", as_json=as_json)


def _list(context: typer.Context, as_json: AsJson = False) -> None:
    """List all rules by their names."""
    from cli.rules import list_rules

    rules = [one.to_json() for one in on_database(context, "rules", list_rules, knows_assets=True)]
    if as_json:
        print_json({"items": rules})
        return
    from cli.output import json_of

    rows = [
        (
            one["name"],
            "enabled" if one["is_enabled"] else "disabled",
            one["action"],
            one["kind"],
            json_of(one["parameters"], on_one_line=True),
            json_of(one["applies_to"], on_one_line=True) if one["applies_to"] else "everything",
        )
        for one in rules
    ]
    print_table(("name", "state", "action", "kind", "parameters", "applies to"), rows)


def _enable(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Which rule.")],
    as_json: AsJson = False,
) -> None:
    """Enforce a rule: every processor does from five seconds after this on."""
    _switch(context, name, is_enabled=True, as_json=as_json)


def _disable(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Which rule.")],
    as_json: AsJson = False,
) -> None:
    """Enforce a rule no longer. What it holds back stays held back until it is decided."""
    _switch(context, name, is_enabled=False, as_json=as_json)


def _switch(context: typer.Context, name: str, *, is_enabled: bool, as_json: bool) -> None:
    from cli.actor import login_actor
    from cli.rules import switch_rule

    rule, is_new = on_database(
        context,
        "rules",
        lambda connection: switch_rule(
            connection, name, is_enabled=is_enabled, actor=login_actor()
        ),
        knows_assets=True,
    )
    state = "enabled" if is_enabled else "disabled"
    done = f"is {state}, within five seconds everywhere" if is_new else f"was {state} before"
    _print(rule, f"rule '{name}' {done}", as_json=as_json)


def _test(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Which rule; it need not be enabled.")],
    *,
    first: Annotated[
        datetime | None,
        typer.Option(
            "--from", formats=["%Y-%m-%d"], help="The first day (UTC); by default 30 days ago."
        ),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", formats=["%Y-%m-%d"], help="The day after the last one (UTC)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try a rule on what was posted: how much it would have hit. Nothing is changed."""
    until = datetime.now(UTC) if end is None else end.replace(tzinfo=UTC)
    since = until - timedelta(days=_DAYS_TRIED) if first is None else first.replace(tzinfo=UTC)
    if since >= until:
        raise UsageError(f"--from {since:%Y-%m-%d} is not before --to {until:%Y-%m-%d}")

    async def trial(connection: "Connection") -> "TrialReport":
        from cli.rules import find_rule
        from runtime.screening.model import rule_of
        from runtime.screening.trial import try_rule

        rule = rule_of((await find_rule(connection, name)).row)
        with _progress() as progress:
            return await try_rule(connection, rule, since=since, until=until, progress=progress)

    report = on_database(context, "rules", trial, knows_assets=True)
    if as_json:
        span = {"from": since.isoformat(), "to": until.isoformat()}
        print_json({**report.to_json(), **span})
        return
    verb = {"refuse": "refused", "flag": "flagged", "review": "held back"}[report.action.value]
    print_line(
        f"'{name}' would have {verb} {report.hits:,} of {report.transactions:,} transactions"
    )
    if report.wallets:
        print_table(("wallet", "hits"), [(str(one), str(hits)) for one, hits in report.wallets])


@contextmanager
def _progress() -> "Iterator[Progress | None]":
    """Give what moves a bar on standard error; nothing where that is no terminal."""
    from cli.replay.progress import progress_bars

    bars = progress_bars(console(is_error=True))
    if bars.disable:
        yield None
        return
    with bars:
        bar = bars.add_task("trying", total=1.0, count=0)
        yield lambda part, count: bars.update(bar, completed=part, count=count)


def _print(rule: "StoredRule", sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json(rule.to_json())
    else:
        say(sentence)
