"""`ackledger assets`: currencies beside those of ISO 4217."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.invocation import on_database
from cli.output import AsJson, print_json, print_line, print_table

if TYPE_CHECKING:
    pass

_EXPONENT_MAX = 12


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Register and list currencies beside those of ISO 4217.", no_args_is_help=True
    )
    group.command("add")(_add)
    group.command("list")(_list)
    app.add_typer(group, name="assets")


def _add(
    context: typer.Context,
    code: Annotated[str, typer.Argument(help="3 to 12 of A-Z and 0-9, such as POINTS8.")],
    *,
    exponent: Annotated[
        int, typer.Option(min=0, max=_EXPONENT_MAX, help="Decimals of its minor unit.")
    ],
    as_json: AsJson = False,
) -> None:
    """Register an asset, for ever. Adding it again changes nothing; exit 1 if it has another form.

    Every running process learns it without a restart: requests may name it a few seconds later.
    """
    from cli.actor import login_actor
    from cli.assets import add_asset

    asset, is_new = on_database(
        context,
        "assets",
        lambda connection: add_asset(connection, code, exponent, actor=login_actor()),
    )
    if as_json:
        print_json({**asset.to_json(), "is_new": is_new})
        return
    done = "registered" if is_new else "already registered"
    moment = f"{asset.usable_from:%Y-%m-%d %H:%M:%SZ}"
    print_line(f"{code} with {exponent} decimals: {done}; requests may name it from {moment} on")


def _list(context: typer.Context, as_json: AsJson = False) -> None:
    """List the registered assets. `GET /v1/assets` has those of ISO 4217 beside them."""
    from cli.assets import list_assets

    assets = on_database(context, "assets", list_assets)
    if as_json:
        print_json({"items": [asset.to_json() for asset in assets]})
        return
    rows = [
        (
            asset.code,
            str(asset.exponent),
            f"{asset.registered_at:%Y-%m-%d %H:%M:%SZ}",
            asset.registered_by,
        )
        for asset in assets
    ]
    print_table(("code", "exponent", "registered", "by"), rows)
