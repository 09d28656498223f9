"""`ackledger keys`: what seals and access tokens are signed with."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, assert_never

import typer

from cli.failures import RefusedError
from cli.invocation import settings_of
from cli.output import AsJson, print_json, print_line, print_table, say

if TYPE_CHECKING:
    from runtime.service.key_directory import KeyDirectory


class Signed(StrEnum):
    """What a directory of keys signs."""

    SEALS = "seals"
    TOKENS = "tokens"


What = Annotated[Signed, typer.Option("--for", help="What the keys sign.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Make and list the keys that sign seals and access tokens.", no_args_is_help=True
    )
    group.command("rotate")(_rotate)
    group.command("list")(_list)
    app.add_typer(group, name="keys")


def _rotate(context: typer.Context, what: What = Signed.SEALS, as_json: AsJson = False) -> None:
    """Make a key, which signs from now on; the first one, too.

    It is made in ACKLEDGER_SEAL_KEYS or ACKLEDGER_TOKEN_KEYS. What was signed before stays valid.
    Running processes take the new key by themselves.
    """
    from datetime import UTC, datetime

    from runtime.service.key_directory import OVERLAP, SigningKeyError

    keys = _keys(context, what)
    try:
        made = keys.rotate(datetime.now(tz=UTC))
    except SigningKeyError as error:
        raise RefusedError(str(error)) from error
    if as_json:
        print_json(made.to_json())
        return
    hours = OVERLAP.total_seconds() / 3600
    say(f"signs from now on; {what} of the key before are believed for {hours:g} hours more:")
    print_line(made.key_id)


def _list(context: typer.Context, what: What = Signed.SEALS, as_json: AsJson = False) -> None:
    """List the public keys that are believed, the oldest first."""
    from runtime.service.key_directory import SigningKeyError

    try:
        listed = _keys(context, what).listed()
    except SigningKeyError as error:
        raise RefusedError(str(error)) from error
    if as_json:
        print_json({"items": [key.to_json() for key in listed]})
        return
    rows = [
        (
            key.key_id,
            key.valid_from.isoformat(timespec="seconds"),
            key.valid_until.isoformat(timespec="seconds") if key.valid_until else "",
            str(key.to_json()["public_key"]),
        )
        for key in listed
    ]
    print_table(("key_id", "valid from", "valid until", "public key"), rows)


def _keys(context: typer.Context, what: Signed) -> "KeyDirectory":
    from runtime.service.settings import SealKeySettings, TokenKeySettings

    match what:
        case Signed.SEALS:
            from verification.seal_keys import SealKeys

            return SealKeys(settings_of(context, SealKeySettings).seal_keys)
        case Signed.TOKENS:
            from ingress.people.token_keys import TokenKeys

            return TokenKeys(settings_of(context, TokenKeySettings).token_keys)
        case _:
            assert_never(what)
