"""`ackledger wallets`: who may use a wallet beside those whose it is."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from cli.invocation import on_database
from cli.output import AsJson, print_json, print_line, print_table

if TYPE_CHECKING:
    pass

_Wallet = Annotated[UUID, typer.Argument(metavar="WALLET", help="The wallet's id.")]
_Client = Annotated[str, typer.Option("--to", help="The client: a submitter's name.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Grant wallets to clients, and take them back.", no_args_is_help=True)
    group.command("grant")(_grant)
    group.command("revoke-grant")(_revoke)
    group.command("grants")(_list)
    app.add_typer(group, name="wallets")


def _grant(
    context: typer.Context, wallet: _Wallet, client: _Client, as_json: AsJson = False
) -> None:
    """Let a client see and move a wallet. Granting it again changes nothing."""
    from cli.actor import login_actor
    from cli.wallet_grants import grant_wallet

    grant, is_new = on_database(
        context,
        "wallets",
        lambda connection: grant_wallet(connection, wallet, client=client, actor=login_actor()),
    )
    if as_json:
        print_json({**grant.to_json(), "is_new": is_new})
        return
    done = "granted" if is_new else "was granted before"
    print_line(f"{wallet}: {done} to {client} by {grant.granted_by}")


def _revoke(
    context: typer.Context, wallet: _Wallet, client: _Client, as_json: AsJson = False
) -> None:
    """End a grant: within a second the wallet is another's to that client. Exit 1 without one."""
    from cli.actor import login_actor
    from cli.wallet_grants import revoke_grant

    grant = on_database(
        context,
        "wallets",
        lambda connection: revoke_grant(connection, wallet, client=client, actor=login_actor()),
    )
    if as_json:
        print_json(grant.to_json())
        return
    print_line(f"{wallet}: not granted to {client} any more")


def _list(
    context: typer.Context,
    wallet: Annotated[UUID | None, typer.Option(help="Only this wallet's.")] = None,
    client: Annotated[str | None, typer.Option("--to", help="Only this client's.")] = None,
    as_json: AsJson = False,
) -> None:
    """List grants, at most a thousand."""
    from cli.wallet_grants import list_grants

    grants = on_database(
        context,
        "wallets",
        lambda connection: list_grants(connection, wallet_id=wallet, client=client),
    )
    if as_json:
        print_json({"items": [one.to_json() for one in grants]})
        return
    rows = [
        (str(one.wallet_id), one.client, one.granted_by, f"{one.granted_at:%Y-%m-%d %H:%M:%SZ}")
        for one in grants
    ]
    print_table(("wallet", "client", "granted by", "granted"), rows)
