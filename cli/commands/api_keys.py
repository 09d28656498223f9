"""`ackledger api-keys`: who may call the ingress, and to do what."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.failures import UsageError
from cli.invocation import on_database
from cli.output import AsJson, print_json, print_line, print_table, say
from contracts.scopes import KEY_SCOPES, Reach, Scope

if TYPE_CHECKING:
    from datetime import datetime

    from cli.api_keys import ApiKey


_REACHES = {
    Reach.OWN: "for the wallets that it makes or is granted",
    Reach.ALL: "for everybody's wallets",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
    group.command("create")(_create)
    group.command("list")(_list)
    group.command("revoke")(_revoke)
    app.add_typer(group, name="api-keys")


def _create(
    context: typer.Context,
    client: Annotated[
        str, typer.Option(help="The submitter of all that the key submits: visible ASCII.")
    ],
    scope: Annotated[list[Scope] | None, typer.Option(help="A right; give it repeatedly.")] = None,
    *,
    all_scopes: Annotated[bool, typer.Option("--all-scopes", help="Every right.")] = False,
    wallets: Annotated[
        Reach,
        typer.Option(help="Whose wallets: those that it makes or is granted, or everybody's."),
    ] = Reach.OWN,
    expires_in: Annotated[
        str | None, typer.Option(help="When it ends by itself, such as 12h, 90d or 4w.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is printed once, alone on standard output, and cannot be read again."""
    from cli.actor import login_actor
    from cli.api_keys import create_api_key, duration_of

    if bool(scope) == all_scopes:
        raise UsageError("name the rights with --scope (repeatedly), or give --all-scopes")
    scopes = KEY_SCOPES if all_scopes else tuple(scope or ())
    lifetime = None if expires_in is None else duration_of(expires_in)
    made, key = on_database(
        context,
        "api-keys",
        lambda connection: create_api_key(
            connection,
            client=client,
            scopes=scopes,
            actor=login_actor(),
            reach=wallets,
            expires_in=lifetime,
        ),
    )
    if as_json:
        print_json({**made.to_json(), "key": key})
        return
    say(
        f"key {made.id} for {client} with {', '.join(made.scopes)}, {_REACHES[made.reach]}; it is "
        "shown only this once:"
    )
    print_line(key)


def _list(
    context: typer.Context,
    client: Annotated[str | None, typer.Option(help="Only this client's keys.")] = None,
    with_revoked: Annotated[bool, typer.Option("--all", help="Revoked keys, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List keys, oldest first; a key is known by the first twelve characters."""
    from cli.api_keys import list_api_keys

    keys = on_database(
        context,
        "api-keys",
        lambda connection: list_api_keys(connection, client=client, with_revoked=with_revoked),
    )
    if as_json:
        print_json({"items": [key.to_json() for key in keys]})
        return
    _print_table(keys)


def _revoke(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="The key's id or its first twelve characters.")],
    as_json: AsJson = False,
) -> None:
    """End a key: from now on it opens nothing. Revoking it again changes nothing."""
    from cli.actor import login_actor
    from cli.api_keys import revoke_api_key

    ended, was_in_force = on_database(
        context, "api-keys", lambda connection: revoke_api_key(connection, key, actor=login_actor())
    )
    if as_json:
        print_json({**ended.to_json(), "was_in_force": was_in_force})
        return
    done = "revoked" if was_in_force else "was revoked before"
    print_line(f"{ended.prefix}… of {ended.client}: {done} ({ended.revoked_at:%Y-%m-%d %H:%M:%SZ})")


def _print_table(keys: "list[ApiKey]") -> None:
    rows = [
        (
            str(key.id),
            key.client,
            key.prefix,
            key.reach.value,
            *map(_text, (key.created_at, key.last_used_at, key.expires_at, key.revoked_at)),
            "all" if set(key.scopes) == set(KEY_SCOPES) else " ".join(key.scopes),
        )
        for key in keys
    ]
    headings = (
        "id",
        "client",
        "prefix",
        "wallets",
        "created",
        "last used",
        "expires",
        "revoked",
        "scopes",
    )
    print_table(headings, rows)


def _text(moment: "datetime | None") -> str:
    return f"{moment:%Y-%m-%d %H:%M:%SZ}" if moment else ""
