"""What a client does, act by act, from its seed alone. Pure."""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from tools.chaos.command import Command
from tools.chaos.journal import Act, Door
from tools.chaos.load.contents import Contents, Item, changed, move
from tools.chaos.load.wallets import Wallets

BATCH_MOST: Final = 20
"""Transactions in one of the load's batches: enough to be cut in the middle."""
_RECENT: Final = 50
"""How many requests back a duplicate may reach: some meet their original while it is under way."""
_OVER_HTTP: Final = 0.6
_BATCH_SHARE: Final = 0.04
_SMALL_MOST: Final = 20

# Weights. Refusals and repetitions, holds and reversals are far more frequent than in life.
_MIX: Final[dict[Act, int]] = {
    Act.TRANSFER: 30,
    Act.DEPOSIT: 8,
    Act.WITHDRAWAL: 8,
    Act.INSUFFICIENT_FUNDS: 3,
    Act.UNKNOWN_WALLET: 2,
    Act.FROZEN_WALLET: 2,
    Act.CURRENCY_MISMATCH: 2,
    Act.HOLD: 6,
    Act.SHORT_HOLD: 3,
    Act.CAPTURE: 7,
    Act.RELEASE: 2,
    Act.REVERSAL: 5,
    Act.FORCED_REVERSAL: 3,
    Act.JOURNAL: 4,
    Act.EXCHANGE: 2,
    Act.ATOMIC: 2,
    Act.DOOMED_ATOMIC: 1,
    Act.CONDITION: 4,
    Act.VALID_UNTIL: 2,
    Act.SCHEDULED: 3,
    Act.CANCEL: 1,
    Act.DUPLICATE: 7,
    Act.CONCURRENT_DUPLICATE: 4,
    Act.OTHER_CONTENT: 4,
    Act.POISON: 2,
}
_CONCURRENT: Final = (
    Act.TRANSFER,
    Act.TRANSFER,
    Act.HOLD,
    Act.CAPTURE,
    Act.RELEASE,
    Act.REVERSAL,
    Act.JOURNAL,
    Act.SCHEDULED,
)
"""What is sent through both doors at once."""
_ATOMIC: Final = frozenset({Act.ATOMIC, Act.DOOMED_ATOMIC})
REPEATING: Final = frozenset({Act.DUPLICATE, Act.OTHER_CONTENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One act of a client, `at_s` after its start.

    Several items are a batch. Poison has none, and `poison` numbers its kind; a cancellation has
    none, and `cancels` is the key of what it cancels. Unless it `waits`, it is sent although debits
    of the same wallets are not answered yet.
    """

    at_s: float
    sequence: int
    act: Act
    door: Door
    items: tuple[Item, ...]
    poison: int = 0
    cancels: str = ""
    waits: bool = True

    @property
    def debited(self) -> frozenset[UUID]:
        """The wallets whose next debit must wait for this act's answer."""
        commands = [item.command for item in self.items if item.command.type != "deposit"]
        wallets = (command.ordering_wallet for command in commands)
        return frozenset(wallet for wallet in wallets if wallet is not None)


def client_steps(
    *, seed: int, client: int, wallets: Wallets, rate_per_s: float, key_prefix: str
) -> Iterator[Step]:
    """Yield a client's acts without end; moments are drawn so that clients never march in step."""
    chance = random.Random(f"{seed}/{client}")  # a text seeds the same on every machine
    chooser = Chooser(chance, wallets, f"{key_prefix}{client}-")
    at_s = 0.0
    sequence = 0
    while True:
        at_s += chance.expovariate(rate_per_s)
        yield chooser.step(at_s, sequence)
        sequence += 1


class Chooser:
    """Draws acts; remembers the last requests, which are what duplicates repeat."""

    def __init__(
        self, chance: random.Random, wallets: Wallets, prefix: str, contents: Contents | None = None
    ) -> None:
        self._chance = chance
        self._wallets = wallets
        self.prefix = prefix
        self.contents = contents or Contents(chance, wallets)
        self._recent: deque[tuple[Door, tuple[Item, ...]]] = deque(maxlen=_RECENT)

    def debit_of(self, place: int) -> Command:
        """Return a small transfer from a hot wallet to the next one of its ring."""
        ring = self._wallets.hot
        minor = self._chance.randint(1, _SMALL_MOST)
        return move("transfer", ring[place], ring[(place + 1) % len(ring)], minor)

    def step(self, at_s: float, sequence: int) -> Step:
        """Draw the next act."""
        [act] = self._chance.choices(list(_MIX), weights=list(_MIX.values()))
        door = Door.HTTP if self._chance.random() < _OVER_HTTP else Door.AMQP
        step = Step(at_s=at_s, sequence=sequence, act=act, door=door, items=())
        if act is Act.POISON:
            return replace(step, door=Door.AMQP, poison=self._chance.randrange(2**16))
        cancels = self.contents.cancelled() if act is Act.CANCEL else None
        if cancels is not None:
            return replace(step, door=Door.HTTP, cancels=cancels)
        items = self._items(act, f"{self.prefix}{sequence}")
        if _is_forced(items):
            door = Door.HTTP
        act = items[0].act
        if act not in REPEATING:
            self._remember(door, items)
        return replace(step, act=act, door=door, items=items)

    def _remember(self, door: Door, items: tuple[Item, ...]) -> None:
        is_atomic = items[0].command.batch is not None
        again = [items] if is_atomic else [(item,) for item in items]
        self._recent.extend((door, one) for one in again)

    def _items(self, act: Act, key: str) -> tuple[Item, ...]:
        if act in REPEATING:
            return self._repetition(act, key)
        if act is Act.CANCEL:
            # Nothing to cancel yet.
            return (self.item(Act.SCHEDULED, key),)
        if act in _ATOMIC:
            return self.contents.atomic(act, key)
        if act is Act.CONCURRENT_DUPLICATE:
            return (replace(self.item(self._chance.choice(_CONCURRENT), key), act=act),)
        if self._chance.random() < _BATCH_SHARE:
            count = self._chance.randint(2, BATCH_MOST)
            return tuple(self.item(act, f"{key}.{number}") for number in range(count))
        return (self.item(act, key),)

    def item(self, act: Act, key: str) -> Item:
        """Return a transaction of a kind."""
        return self.contents.item(act, key)

    def _repetition(self, act: Act, key: str) -> tuple[Item, ...]:
        is_same = act is Act.DUPLICATE
        originals = [
            items
            for door, items in self._recent
            # Only what is recorded before its answer has a first content to hold against another.
            if is_same or (door is Door.HTTP and items[0].command.batch is None)
        ]
        if not originals:
            return (self.item(Act.DEPOSIT, key),)
        return tuple(
            replace(item, act=act, command=item.command if is_same else changed(item.command))
            for item in self._chance.choice(originals)
        )


def _is_forced(items: tuple[Item, ...]) -> bool:
    """Whether an operator asks, which is for the HTTP door alone."""
    return any(item.command.terms and item.command.terms.is_forced for item in items)
