"""What a chaos run sends beside its ordinary clients: bursts, and debits one after the other. Pure.

Bursts fill several batches at once, so that reading, deciding and posting ahead run. Sequences
debit one wallet again and again, each through the other ingress than the one before and only when
that one is answered: where order is lost, they see it.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Final

from tools.chaos.journal import Act, Door
from tools.chaos.load.contents import Contents, Item, Later
from tools.chaos.load.plan import Chooser, Step
from tools.chaos.load.wallets import Wallets
from tools.chaos.pressure import Pressure

_REQUEST_MOST: Final = 100
"""Transactions in one request of a burst: a backlog is many messages, not one."""
_SINGLES_MOST: Final = 100
_SINGLE_SHARE: Final = 0.3
_OVER_HTTP: Final = 0.5
_SEQUENCE_OVER_HTTP: Final = 0.85
_MIXED_EACH: Final = 3
"""Every so many bursts one is of many types. A batch with one transaction that is not plain is
posted in the general way as a whole; plain bursts shall have the fast way to themselves."""
_MIXED: Final = (
    *[Act.TRANSFER] * 6,
    Act.SHORT_HOLD,
    Act.JOURNAL,
    Act.EXCHANGE,
    Act.CONDITION,
    Act.VALID_UNTIL,
)
_WITH_TERMS_SHARE: Final = 0.2
"""Of a sequence's debits: they keep their place among those that are posted the fast way."""
_HOUR_S: Final = 3600.0


NO_PRESSURE: Final = Pressure(sequences=0)


def burst_steps(
    *, seed: int, wallets: Wallets, pressure: Pressure, key_prefix: str
) -> Iterator[Step]:
    """Yield the acts of bursts without end; those of one burst are due at the same moment."""
    chance = random.Random(f"{seed}/burst")
    contents = Contents(chance, wallets, holding_share=0.0)
    chooser = Chooser(chance, wallets, key_prefix, contents)
    at_s, sequence, number = pressure.burst_interval_s / 2, 0, 0
    while pressure.burst:
        left = pressure.burst
        number += 1
        kinds = (Act.TRANSFER,) if number % _MIXED_EACH else _MIXED
        singles = min(round(left * _SINGLE_SHARE), _SINGLES_MOST)
        while left > 0:
            count = 1 if left <= singles else min(chance.randint(2, _REQUEST_MOST), left)
            door = Door.HTTP if chance.random() < _OVER_HTTP else Door.AMQP
            acts = chance.choices(kinds, k=count)
            yield _step(chooser, at_s, sequence, door, acts)
            left -= count
            sequence += 1
        at_s += pressure.burst_interval_s


def _step(chooser: Chooser, at_s: float, sequence: int, door: Door, acts: Sequence[Act]) -> Step:
    key = f"{chooser.prefix}{sequence}"
    items = tuple(chooser.item(act, f"{key}.{number}") for number, act in enumerate(acts))
    return Step(at_s=at_s, sequence=sequence, act=Act.TRANSFER, door=door, items=items, waits=False)


def sequence_steps(
    *, seed: int, number: int, wallets: Wallets, pressure: Pressure, key_prefix: str
) -> Iterator[Step]:
    """Yield debits of one hot wallet without end; whoever carries them out sends one at a time."""
    chance = random.Random(f"{seed}/sequence/{number}")
    chooser = Chooser(chance, wallets, key_prefix)
    at_s, sequence = 0.0, 0
    while True:
        at_s += chance.expovariate(pressure.sequence_rate_per_s)
        door = Door.HTTP if chance.random() < _SEQUENCE_OVER_HTTP else Door.AMQP
        has_terms = chance.random() < _WITH_TERMS_SHARE
        item = Item(
            act=Act.TRANSFER,
            key=f"{chooser.prefix}{sequence}",
            command=chooser.debit_of(number % len(wallets.hot)),
            later=Later(valid_for_s=_HOUR_S) if has_terms else None,
        )
        yield Step(at_s=at_s, sequence=sequence, act=Act.TRANSFER, door=door, items=(item,))
        sequence += 1
