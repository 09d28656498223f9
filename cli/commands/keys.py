"""`ackledger keys`: what the seals are signed with."""

from typing import TYPE_CHECKING

import typer

from cli.failures import RefusedError
from cli.invocation import settings_of
from cli.output import AsJson, print_json, print_line, print_table, say

if TYPE_CHECKING:
    from verification.seal_keys import SealKeys


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Make and list the keys that sign the seals.", no_args_is_help=True)
    group.command("rotate")(_rotate)
    group.command("list")(_list)
    app.add_typer(group, name="keys")


def _rotate(context: typer.Context, as_json: AsJson = False) -> None:
    """Make a key in ACKLEDGER_SEAL_KEYS, which signs from now on; the first one, too.

    What was signed before stays valid. A running reconciler takes the new key by itself.
    """
    from datetime import UTC, datetime

    from verification.seal_keys import OVERLAP, SealKeyError

    keys = _keys(context)
    try:
        made = keys.rotate(datetime.now(tz=UTC))
    except SealKeyError as error:
        raise RefusedError(str(error)) from error
    if as_json:
        print_json(made.to_json())
        return
    hours = OVERLAP.total_seconds() / 3600
    say(f"signs from now on; seals of the key before are believed for {hours:g} hours more:")
    print_line(made.key_id)


def _list(context: typer.Context, as_json: AsJson = False) -> None:
    """List the public keys that `ackledger verify` believes, the oldest first."""
    from verification.seal_keys import SealKeyError

    try:
        trusted = _keys(context).trusted().keys
    except SealKeyError as error:
        raise RefusedError(str(error)) from error
    if as_json:
        print_json({"items": [key.to_json() for key in trusted]})
        return
    rows = [
        (
            key.key_id,
            key.valid_from.isoformat(timespec="seconds"),
            key.valid_until.isoformat(timespec="seconds") if key.valid_until else "",
            str(key.to_json()["public_key"]),
        )
        for key in trusted
    ]
    print_table(("key_id", "valid from", "valid until", "public key"), rows)


def _keys(context: typer.Context) -> "SealKeys":
    from runtime.service.settings import SealKeySettings
    from verification.seal_keys import SealKeys

    return SealKeys(settings_of(context, SealKeySettings).seal_keys)
