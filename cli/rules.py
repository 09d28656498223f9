"""Rules for operators: added, listed, switched. What a rule says is never changed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from cli.dependencies import Connection
from cli.failures import RefusedError, UsageError
from contracts.money import AmountError, format_minor, minor_units
from contracts.representations.transaction import format_moment
from ledger.words import RuleAction, RuleKind, RuleSubject, TransactionType
from runtime.postgres.queries import load_queries
from runtime.screening.model import LISTED_MAX, NAME, RULES_MAX, WINDOW_MAX_S, WINDOW_MIN_S

_WINDOW: Final = re.compile(r"(\d{1,7})([smhd])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleOrder:
    """A rule as the command line asks for it: amounts are `EUR=100.00`, a window is `1h`."""

    name: str
    kind: RuleKind
    action: RuleAction
    by: RuleSubject | None = None
    window: str | None = None
    count_max: int | None = None
    sum_max: Sequence[str] = ()
    least: Sequence[str] = ()
    most: Sequence[str] = ()
    types: Sequence[TransactionType] = ()
    wallets: Sequence[str] = ()
    owners: Sequence[str] = ()
    clients: Sequence[str] = ()
    currencies: Sequence[str] = field(default=())

    def parameters(self) -> dict[str, Any]:
        """Return what the table keeps of its kind; raises UsageError."""
        given = {
            "--by": self.by,
            "--window": self.window,
            "--count-max": self.count_max,
            "--sum-max": self.sum_max,
            "--least": self.least,
            "--most": self.most,
        }
        strange = [
            name
            for name, value in given.items()
            if value not in (None, (), []) and name not in _OPTIONS[self.kind]
        ]
        if strange:
            raise UsageError(f"{', '.join(strange)}: not for a rule of kind {self.kind}")
        match self.kind:
            case RuleKind.VELOCITY:
                return self._velocity()
            case RuleKind.AMOUNT:
                return self._bounds()
            case RuleKind.FIRST_DESTINATION:
                return {}

    def _velocity(self) -> dict[str, Any]:
        if self.by is None or self.window is None:
            raise UsageError("a velocity rule needs --by and --window")
        if self.count_max is None and not self.sum_max:
            raise UsageError("a velocity rule needs --count-max, --sum-max or both")
        return {
            "by": self.by.value,
            "window_s": window_s_of(self.window),
            "count_max": self.count_max,
            "sum_max": amounts_of("--sum-max", self.sum_max),
        }

    def _bounds(self) -> dict[str, Any]:
        least, most = amounts_of("--least", self.least), amounts_of("--most", self.most)
        if not least and not most:
            raise UsageError("an amount rule needs --least, --most or both")
        for currency in least.keys() & most.keys():
            if least[currency] > most[currency]:
                raise UsageError(f"--least is more than --most in {currency}")
        return {
            currency: {"least": least.get(currency), "most": most.get(currency)}
            for currency in sorted(least.keys() | most.keys())
        }


_OPTIONS: Final[Mapping[RuleKind, frozenset[str]]] = {
    RuleKind.VELOCITY: frozenset({"--by", "--window", "--count-max", "--sum-max"}),
    RuleKind.AMOUNT: frozenset({"--least", "--most"}),
    RuleKind.FIRST_DESTINATION: frozenset(),
}


@dataclass(frozen=True, slots=True)
class StoredRule:
    """A rule as it is kept."""

    row: asyncpg.Record

    @property
    def is_enabled(self) -> bool:
        """Whether it is enforced, from five seconds after it was enabled on."""
        enabled: bool = self.row["is_enabled"]
        return enabled

    def to_json(self) -> dict[str, Any]:
        """Return it as the command line prints it, amounts in major units."""
        row = self.row
        scope = {
            name: [str(one) for one in row[name]]
            for name in ("types", "wallets", "owners", "clients", "currencies")
            if row[name] is not None
        }
        return {
            "id": str(row["id"]),
            "name": row["name"],
            "kind": row["kind"],
            "action": row["action"],
            "parameters": _shown(RuleKind(row["kind"]), orjson.loads(row["parameters"])),
            "applies_to": scope,
            "is_enabled": row["is_enabled"],
            "version": row["version"],
            "created_at": format_moment(row["created_at"]),
            "updated_at": format_moment(row["updated_at"]),
        }


def _shown(kind: RuleKind, parameters: Mapping[str, Any]) -> dict[str, Any]:
    if kind is RuleKind.AMOUNT:
        return {
            currency: {
                name: format_minor(one, currency) for name, one in bounds.items() if one is not None
            }
            for currency, bounds in parameters.items()
        }
    sums = parameters.get("sum_max")
    shown = {name: one for name, one in parameters.items() if one not in (None, {})}
    if sums:
        shown["sum_max"] = {code: format_minor(minor, code) for code, minor in sums.items()}
    return shown


def window_s_of(text: str) -> int:
    """Return the seconds of `90s`, `15m`, `1h` or `30d`; raises UsageError."""
    found = _WINDOW.fullmatch(text)
    seconds = int(found[1]) * _UNIT_S[found[2]] if found else 0
    if not WINDOW_MIN_S <= seconds <= WINDOW_MAX_S:
        raise UsageError(f"'{text}': a window is 1m to 30d, such as 90s, 15m, 1h")
    return seconds


def amounts_of(option: str, texts: Iterable[str]) -> dict[str, int]:
    """Return minor units by currency, of `EUR=100.00`; raises UsageError."""
    found: dict[str, int] = {}
    for text in texts:
        currency, equals, amount = text.partition("=")
        try:
            if not equals:
                raise UsageError(f"{option} {text}: expected CURRENCY=AMOUNT, such as EUR=100.00")
            found[currency] = minor_units(Decimal(amount), currency)
        except (AmountError, InvalidOperation, ValueError) as error:
            reason = str(error) if isinstance(error, AmountError) else "not a decimal number"
            raise UsageError(f"{option} {text}: {reason}") from None
    return found


async def add_rule(connection: Connection, order: RuleOrder, *, actor: str) -> StoredRule:
    """Add a rule, which is not enabled yet; raises UsageError, and RefusedError for a name in use.

    Assets have to be known (runtime.postgres.assets) before its amounts are read.
    """
    if not NAME.fullmatch(order.name):
        raise UsageError(f"'{order.name}': a name is 1 to 63 of a-z, 0-9, '_', '.' and '-'")
    scope = (order.types, _wallets(order.wallets), order.owners, order.clients, order.currencies)
    if any(len(one) > LISTED_MAX for one in scope):
        raise UsageError(f"a rule names at most {LISTED_MAX} of each")
    row = await connection.fetchrow(
        load_queries("cli")["insert_rule"],
        order.name,
        order.kind,
        order.action,
        orjson.dumps(order.parameters()).decode(),
        *(list(one) or None for one in scope),
        actor,
    )
    if row is None:
        raise RefusedError(f"there is a rule '{order.name}'; what a rule says is never changed")
    return StoredRule(row)


async def list_rules(connection: Connection) -> list[StoredRule]:
    """Return all rules, by their names."""
    return [StoredRule(row) for row in await connection.fetch(load_queries("cli")["list_rules"])]


async def find_rule(connection: Connection, name: str) -> StoredRule:
    """Return a rule; raises RefusedError."""
    row = await connection.fetchrow(load_queries("cli")["find_rule"], name)
    if row is None:
        raise RefusedError(f"there is no rule '{name}'")
    return StoredRule(row)


async def switch_rule(
    connection: Connection, name: str, *, is_enabled: bool, actor: str
) -> tuple[StoredRule, bool]:
    """Enable or disable a rule; return it, and whether this call did. Raises RefusedError."""
    rule = await find_rule(connection, name)
    if rule.is_enabled is is_enabled:
        return rule, False
    row = await connection.fetchrow(
        load_queries("cli")["switch_rule"], name, is_enabled, actor, RULES_MAX
    )
    if row is None:
        raise RefusedError(f"{RULES_MAX} rules are enabled, and more cannot be")
    return StoredRule(row), True


def _wallets(texts: Iterable[str]) -> list[UUID]:
    try:
        return [UUID(text) for text in texts]
    except ValueError as error:
        raise UsageError(f"--wallet: {error}") from None
