"""`ackledger clients`: upstream systems that publish transactions, and what they may ask for."""

from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from cli.failures import UsageError
from cli.invocation import invocation_of, on_database, settings_of
from cli.output import AsJson, print_json, print_line, print_table, say
from contracts.scopes import Reach

if TYPE_CHECKING:
    from cli.dependencies import Connection
    from cli.upstream_clients import BrokerUsers, UpstreamClient

_MANAGEMENT = "ACKLEDGER_AMQP_MANAGEMENT_URL"

Name: TypeAlias = Annotated[
    str, typer.Argument(help="The broker's user, and the submitter of all that it publishes.")
]
Words: TypeAlias = list[str] | None


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Make, list, disable and enable upstream systems on AMQP.", no_args_is_help=True
    )
    group.command("create")(_create)
    group.command("list")(_list)
    group.command("disable")(_disable)
    group.command("enable")(_enable)
    app.add_typer(group, name="clients")


def _create(
    context: typer.Context,
    name: Name,
    *,
    wallets: Annotated[
        Reach, typer.Option(help="Whose wallets it moves: those it made or was granted, or all.")
    ] = Reach.OWN,
    types: Annotated[Words, typer.Option(help="Only these types: transfer,deposit.")] = None,
    currencies: Annotated[Words, typer.Option(help="Only these currencies: EUR,USD.")] = None,
    owners: Annotated[Words, typer.Option(help="Only wallets of these owners.")] = None,
    per_transaction_max: Annotated[
        Words, typer.Option(help="The most in one transaction: EUR=1000.00. Give it repeatedly.")
    ] = None,
    daily_max: Annotated[
        Words, typer.Option(help="The most in a day: EUR=50000.00. Give it repeatedly.")
    ] = None,
    existing_user: Annotated[
        bool,
        typer.Option("--existing-user", help="The broker has the user; its password stays."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a broker user that may publish transactions, and nothing else, and bound it.

    Its password is printed once, alone on standard output, and cannot be read again.
    """
    from cli.actor import login_actor
    from cli.upstream_clients import create_client, restrictions_of
    from runtime.postgres.assets import read_assets

    async def create(connection: "Connection") -> "tuple[UpstreamClient, str | None]":
        await read_assets(connection)
        restrictions = restrictions_of(
            wallets,
            types=types,
            currencies=currencies,
            owners=owners,
            per_transaction_max=per_transaction_max,
            daily_max=daily_max,
        )
        return await create_client(
            connection, users, name, restrictions, is_there=existing_user, actor=login_actor()
        )

    users = _broker_users(context)
    _print_made(*on_database(context, "clients", create), as_json=as_json)


def _list(
    context: typer.Context,
    with_disabled: Annotated[bool, typer.Option("--all", help="Disabled ones, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the clients by their names, with what each may ask for."""
    from cli.upstream_clients import list_clients
    from runtime.postgres.assets import read_assets

    async def read(connection: "Connection") -> "list[UpstreamClient]":
        await read_assets(connection)
        return await list_clients(connection, with_disabled=with_disabled)

    clients = [client.to_json() for client in on_database(context, "clients", read)]
    if as_json:
        print_json({"items": clients})
        return
    columns = ("name", "wallets", "created_at", "disabled_at", "may")
    print_table(
        columns,
        [[*(str(one[column] or "") for column in columns[:-1]), _may(one)] for one in clients],
    )


def _disable(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Shut a client out: its broker user is removed, its connections end. Its row stays."""
    from cli.actor import login_actor
    from cli.upstream_clients import disable_client

    users = _broker_users(context)
    client = on_database(
        context,
        "clients",
        lambda connection: disable_client(connection, users, name, actor=login_actor()),
    )
    if as_json:
        print_json(client.to_json())
        return
    print_line(f"{client.name}: disabled ({client.disabled_at:%Y-%m-%d %H:%M:%SZ})")


def _enable(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Let a client in again, or give it another password. The password is printed once."""
    from cli.actor import login_actor
    from cli.upstream_clients import enable_client

    users = _broker_users(context)
    made = on_database(
        context,
        "clients",
        lambda connection: enable_client(connection, users, name, actor=login_actor()),
    )
    _print_made(*made, as_json=as_json)


def _print_made(client: "UpstreamClient", password: str | None, *, as_json: bool) -> None:
    if as_json:
        print_json({**client.to_json(), "password": password})
        return
    if password is None:
        print_line(f"{client.name}: bounded; its password stays as it is")
        return
    say(f"the broker's user {client.name}; its password is shown only this once:")
    print_line(password)


def _may(client: dict[str, object]) -> str:
    """What a client is restricted to, in one line; empty for one that may ask for anything."""
    restricted = []
    for column in ("types", "currencies", "owners", "per_transaction_max", "daily_max"):
        match client[column]:
            case None:
                continue
            case dict(sums):
                words = [f"{currency}={amount}" for currency, amount in sums.items()]
            case found:
                words = list(found)  # type: ignore[call-overload]
        restricted.append(f"{column}: {','.join(words)}")
    return "; ".join(restricted)


def _broker_users(context: typer.Context) -> "BrokerUsers":
    from urllib.parse import unquote, urlsplit

    from cli.invocation import completed
    from cli.upstream_clients import BrokerUsers
    from runtime.service.settings import ManagementSettings

    if not completed(invocation_of(context)).get(_MANAGEMENT):
        raise UsageError(
            f"{_MANAGEMENT} is not set: http://user:password@host:15672 of RabbitMQ's management "
            "API, with a user that is tagged 'administrator'"
        )
    settings = settings_of(context, ManagementSettings)
    vhost = unquote(urlsplit(settings.amqp_url).path.removeprefix("/"))
    return BrokerUsers(settings.amqp_management_url, vhost=vhost or "/")
