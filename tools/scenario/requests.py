"""From steps to requests: names become ids, minor units become text, spans become moments."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson

from cli.replay.doors import encoded
from cli.replay.ordering import Item
from contracts.identifiers import external_wallet_id
from contracts.money import format_minor
from tools.scenario.steps import NOWHERE, OUTSIDE, Batch, PlannedLeg, Step

_NOWHERE_ID: Final = str(UUID(int=404))
_OF: Final = {"capture": "hold_id", "release": "hold_id", "reversal": "reverses"}
"""By which name a type refers to another transaction, whose wallets it then changes."""


@dataclass(slots=True)
class Requests:
    """Writes requests; the same step is the same request, whenever it is written.

    `wallets` are ids by name, `ids` of transactions by key; both grow while a scenario is driven.
    """

    wallets: dict[str, str]
    ids: dict[str, str] = field(default_factory=dict)
    _began: datetime = field(default_factory=lambda: datetime.now(UTC))
    _due: dict[str, str] = field(default_factory=dict)

    def item(self, step: Step) -> Item:
        """Return what a door is handed for a step."""
        named = [self._wallet(name, step.currency) for name in step.wallets]
        return Item(
            line=0,
            wallet=self._wallet(step.ordered_by, step.currency),
            key=step.key,
            body=encoded(self._body(step)),
            names=(*named, step.key),
        )

    def batch(self, batch: Batch, **more: object) -> bytes:
        """Return the body of an atomic batch."""
        bodies = [self._body(step) for step in batch.steps]
        return orjson.dumps({**more, "mode": "atomic", "transactions": bodies})

    def _body(self, step: Step) -> dict[str, Any]:
        body = {"idempotency_key": step.key, "type": step.kind, **dict(self._terms(step))}
        if step.legs:
            return {**body, "legs": [self._leg(leg) for leg in step.legs]}
        if step.minor is not None:
            body["amount"] = format_minor(step.minor, step.currency)
        if step.kind in _OF:
            return {**body, _OF[step.kind]: self.ids.get(step.terms.of or "", _NOWHERE_ID)}
        body["currency"] = step.currency
        if step.source is not None:
            body["source_wallet_id"] = self._wallet(step.source, step.currency)
        if step.destination is not None:
            body["destination_wallet_id"] = self._wallet(step.destination, step.currency)
        return body

    def _leg(self, leg: PlannedLeg) -> dict[str, Any]:
        amount = format_minor(leg.minor, leg.currency)
        where = (
            {"external": True} if leg.wallet == OUTSIDE else {"wallet_id": self.wallets[leg.wallet]}
        )
        return {**where, "amount": amount, "currency": leg.currency}

    def _terms(self, step: Step) -> Iterator[tuple[str, Any]]:
        terms = step.terms
        if terms.expires_in_s is not None:
            yield "expires_in_s", terms.expires_in_s
        if terms.is_final is not None:
            yield "final", terms.is_final
        if terms.is_forced:
            yield "force", True
        if terms.has_condition:
            yield "conditions", [dict(self._condition(step))]
        if terms.valid_for_s is not None:
            yield "valid_until", _text(self._began + timedelta(seconds=terms.valid_for_s))
        if terms.due_in_s is not None:
            due = datetime.now(UTC) + timedelta(seconds=terms.due_in_s)
            yield "execute_at", self._due.setdefault(step.key, _text(due))

    def _condition(self, step: Step) -> Iterator[tuple[str, Any]]:
        terms = step.terms
        yield "wallet_id", self.wallets[step.ordered_by]
        if terms.version is not None:
            yield "version", terms.version
        if terms.available_at_least is not None:
            yield "available_at_least", format_minor(terms.available_at_least, step.currency)
        if terms.balance_at_most is not None:
            yield "balance_at_most", format_minor(terms.balance_at_most, step.currency)

    def _wallet(self, name: str, currency: str) -> str:
        if name == OUTSIDE:
            return str(external_wallet_id(currency))
        return _NOWHERE_ID if name == NOWHERE else self.wallets[name]


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
