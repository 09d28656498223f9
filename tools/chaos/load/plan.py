"""What a client does, act by act, from its seed alone. Pure."""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from tools.chaos.journal import Act, Command, Door
from tools.chaos.load.wallets import FOREIGN_CURRENCY, HOME_CURRENCY, Wallets

BATCH_MOST: Final = 20
"""Transactions in one of the load's batches: enough to be cut in the middle."""
_RECENT: Final = 50
"""How many acts back a duplicate may reach: some meet their original while it is under way."""
_HOT_SHARE: Final = 0.5
_OVER_HTTP: Final = 0.6
_BATCH_SHARE: Final = 0.04
_MINOR_MOST: Final = 500
_SMALL_MOST: Final = 20
_BEYOND_ANY_BALANCE: Final = 10**12

# Weights in percent. Refusals and repetitions are far more frequent than in life.
_MIX: Final[dict[Act, int]] = {
    Act.TRANSFER: 50,
    Act.DEPOSIT: 12,
    Act.WITHDRAWAL: 12,
    Act.INSUFFICIENT_FUNDS: 4,
    Act.UNKNOWN_WALLET: 3,
    Act.FROZEN_WALLET: 3,
    Act.CURRENCY_MISMATCH: 3,
    Act.DUPLICATE: 5,
    Act.CONCURRENT_DUPLICATE: 3,
    Act.OTHER_CONTENT: 3,
    Act.POISON: 2,
}
REPEATING: Final = frozenset({Act.DUPLICATE, Act.OTHER_CONTENT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One transaction to ask for."""

    act: Act
    key: str
    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One act of a client, `at_s` after its start.

    Several items are a batch. Poison has none, and `poison` numbers its kind. Unless it `waits`, it
    is sent although debits of the same wallets are not answered yet.
    """

    at_s: float
    sequence: int
    act: Act
    door: Door
    items: tuple[Item, ...]
    poison: int = 0
    waits: bool = True

    @property
    def debited(self) -> frozenset[UUID]:
        """The wallets whose next debit must wait for this act's answer."""
        sources = (item.command.source_wallet_id for item in self.items)
        return frozenset(source for source in sources if source is not None)


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
    """Draws acts; remembers the last ones, which are what duplicates repeat."""

    def __init__(self, chance: random.Random, wallets: Wallets, prefix: str) -> None:
        self._chance = chance
        self._wallets = wallets
        self.prefix = prefix
        self._recent: deque[tuple[Door, Item]] = deque(maxlen=_RECENT)

    def debit_of(self, place: int) -> Command:
        """Return a small transfer from a hot wallet to the next one of its ring."""
        ring = self._wallets.hot
        minor = self._chance.randint(1, _SMALL_MOST)
        return _command("transfer", ring[place], ring[(place + 1) % len(ring)], minor)

    def step(self, at_s: float, sequence: int) -> Step:
        """Draw the next act."""
        [act] = self._chance.choices(list(_MIX), weights=list(_MIX.values()))
        door = Door.HTTP if self._chance.random() < _OVER_HTTP else Door.AMQP
        if act is Act.POISON:
            return Step(
                at_s=at_s,
                sequence=sequence,
                act=act,
                door=Door.AMQP,
                items=(),
                poison=self._chance.randrange(2**16),
            )
        items = self._items(act, sequence)
        if items[0].act is not act and act in REPEATING:
            act = items[0].act  # nothing to repeat yet
        if act not in REPEATING:
            self._recent.extend((door, item) for item in items)
        return Step(at_s=at_s, sequence=sequence, act=act, door=door, items=items)

    def _items(self, act: Act, sequence: int) -> tuple[Item, ...]:
        key = f"{self.prefix}{sequence}"
        if act in REPEATING:
            return (self._repetition(act, key),)
        if act is not Act.CONCURRENT_DUPLICATE and self._chance.random() < _BATCH_SHARE:
            count = self._chance.randint(2, BATCH_MOST)
            acts = [act] * count
            return tuple(self.item(one, f"{key}.{number}") for number, one in enumerate(acts))
        return (self.item(act, key),)

    def item(self, act: Act, key: str) -> Item:
        """Return a transaction of a kind."""
        return Item(act=act, key=key, command=self._command(act))

    def _repetition(self, act: Act, key: str) -> Item:
        originals = [
            item
            for door, item in self._recent
            # Only what is recorded before its answer has a first content to hold against another.
            if act is Act.DUPLICATE or door is Door.HTTP
        ]
        if not originals:
            return self.item(Act.DEPOSIT, key)
        original = self._chance.choice(originals)
        command = original.command
        if act is Act.OTHER_CONTENT:
            command = Command(
                type=command.type,
                source_wallet_id=command.source_wallet_id,
                destination_wallet_id=command.destination_wallet_id,
                minor=command.minor + 1,
                currency=command.currency,
            )
        return Item(act=act, key=original.key, command=command)

    def _command(self, act: Act) -> Command:
        chance, wallets = self._chance, self._wallets
        source, destination = self._neighbours()
        minor = chance.randint(1, _MINOR_MOST)
        match act:
            case Act.DEPOSIT:
                return _command("deposit", None, destination, minor)
            case Act.WITHDRAWAL:
                return _command("withdrawal", source, None, minor)
            case Act.INSUFFICIENT_FUNDS:
                return _command("transfer", source, destination, _BEYOND_ANY_BALANCE + minor)
            case Act.UNKNOWN_WALLET:
                nobody = UUID(int=chance.getrandbits(128), version=4)
                return _command("transfer", source, nobody, minor)
            case Act.FROZEN_WALLET:
                return _command("transfer", source, chance.choice(wallets.frozen), minor)
            case Act.CURRENCY_MISMATCH:
                return _command("transfer", source, destination, minor, FOREIGN_CURRENCY)
            case _:
                return _command("transfer", source, destination, minor)

    def _neighbours(self) -> tuple[UUID, UUID]:
        """A wallet and the next one of its ring: hot ones meet all the time, cold ones rarely."""
        ring = self._wallets.hot if self._chance.random() < _HOT_SHARE else self._wallets.cold
        place = self._chance.randrange(len(ring))
        return ring[place], ring[(place + 1) % len(ring)]


def _command(
    kind: str,
    source: UUID | None,
    destination: UUID | None,
    minor: int,
    currency: str = HOME_CURRENCY,
) -> Command:
    return Command(
        type=kind,
        source_wallet_id=source,
        destination_wallet_id=destination,
        minor=minor,
        currency=currency,
    )
