"""Registered assets: added and listed by operators; an asset is never changed and never removed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from cli.dependencies import Connection
from cli.failures import RefusedError, UsageError
from contracts.money import CODE_PATTERN, is_iso_4217
from contracts.representations.transaction import format_moment
from runtime.postgres.assets import ASSETS_MAX, USABLE_AFTER_S
from runtime.postgres.queries import load_queries

_CODE: Final = re.compile(CODE_PATTERN)


@dataclass(frozen=True, slots=True)
class RegisteredAsset:
    """An asset; requests may name it from `usable_from` on."""

    code: str
    exponent: int
    registered_at: datetime
    registered_by: str
    usable_from: datetime

    def to_json(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        return {
            "code": self.code,
            "exponent": self.exponent,
            "registered_at": format_moment(self.registered_at),
            "registered_by": self.registered_by,
            "usable_from": format_moment(self.usable_from),
        }


async def add_asset(
    connection: Connection, code: str, exponent: int, *, actor: str
) -> tuple[RegisteredAsset, bool]:
    """Register an asset, if it is not yet; return it, and whether this call did.

    Raises UsageError for a code of another form, RefusedError for one of ISO 4217, for one that is
    registered with another exponent, and beyond ASSETS_MAX.
    """
    if not _CODE.fullmatch(code):
        raise UsageError(f"'{code}': a code is 3 to 12 of A-Z and 0-9")
    if is_iso_4217(code):
        raise RefusedError(f"'{code}' is or was a code of ISO 4217: no asset may be called so")
    sql = load_queries("cli")
    row = await connection.fetchrow(
        sql["insert_asset"], code, exponent, actor, USABLE_AFTER_S, ASSETS_MAX
    )
    if row is not None:
        return _asset(row), True
    found = {one.code: one for one in await list_assets(connection)}
    if code not in found:
        raise RefusedError(f"{len(found)} assets are registered, and more than {ASSETS_MAX} cannot")
    if found[code].exponent != exponent:
        raise RefusedError(
            f"'{code}' is registered with exponent {found[code].exponent}; an asset never changes"
        )
    return found[code], False


async def list_assets(connection: Connection) -> Sequence[RegisteredAsset]:
    """Return the registered assets, by their codes."""
    return [_asset(row) for row in await connection.fetch(load_queries("cli")["list_assets"])]


def _asset(row: asyncpg.Record) -> RegisteredAsset:
    return RegisteredAsset(
        code=row["code"],
        exponent=row["exponent"],
        registered_at=row["registered_at"],
        registered_by=row["registered_by"],
        usable_from=row["usable_from"],
    )
