"""Of two batches in a row the second is as if it came after all of the first, however far ahead.

The state machine of test_state_machine.py with pairs of batches that are all plain moves: what is
decided without locks, and sent while the batch before it is still being written (decision 64).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from enum import Enum, auto
from typing import Final
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    initialize,
    multiple,
    rule,
    run_state_machine_as_test,
)

from contracts.money import format_minor
from ledger.words import TransactionType, WalletStatus
from processor.intake import Item
from tests.property.bodies import move
from tests.property.real_ledger import Ahead, Crash, Meddling, RealLedger, open_ledger
from tests.property.test_state_machine import EXAMPLES_SHARE, FUNDS, STEPS, LedgerMachine, Piece

Move = tuple[str, UUID, UUID, int]
Batch = list[Move]


def _moves_over(wallets: Bundle[UUID]) -> st.SearchStrategy[Batch]:
    return st.lists(
        st.tuples(
            st.sampled_from(["deposit", "withdrawal", "transfer", "transfer"]),
            wallets,
            wallets,
            st.integers(1, 200),
        ),
        min_size=1,
        max_size=4,
    )


_FREE: Final[Bundle[UUID]] = Bundle("free")
"""Two wallets of which nothing is held: a refusal for what is held is decided under locks."""
_MOVES: Final = _moves_over(_FREE)
_PAIRS: Final = st.one_of(
    *[st.tuples(_MOVES, _MOVES)] * 3,
    st.tuples(_moves_over(LedgerMachine.wallets), _moves_over(LedgerMachine.wallets)),
)

_CRASHES: Final = st.one_of(
    st.just(()),
    st.tuples(st.sampled_from(Crash)),
    st.tuples(st.none(), st.sampled_from(Crash)),
)
"""Of the first, or of the second."""


class Again(Enum):
    """What of the first batch stands in the second one, too."""

    NOTHING = auto()
    SAME = auto()
    """A request."""
    OTHER = auto()
    """The key of one, with other content: the first counts."""


class PairMachine(LedgerMachine):
    """The same world, in which pairs of batches of plain moves come over few wallets."""

    free = _FREE

    def __init__(
        self, ledger: RealLedger, completed: Counter[TransactionType], pairs: Counter[Ahead]
    ) -> None:
        """`pairs` counts over all machines how far ahead the second batches came."""
        super().__init__(ledger, completed)
        self.pairs = pairs

    @initialize(target=free)
    def begin_in_a_row(self) -> MultipleResults[UUID]:
        """Two more wallets that have money, and a pair over them that nothing disturbs.

        They are so few that whoever writes one mostly writes both.
        """
        rich, poor = self._new_wallet("USD", 0), self._new_wallet("USD", 30)
        self._post_now(move("deposit", rich, rich, FUNDS, "USD"))
        for is_http, again in ((True, Again.NOTHING), (False, Again.NOTHING), (False, Again.OTHER)):
            self.post_in_a_row(
                pair=([("transfer", rich, poor, 40)], [("transfer", poor, rich, 30)]),
                crashes=(),
                is_late=False,
                is_http=is_http,
                again=again,
            )
        return multiple(rich, poor)

    @rule(
        pair=_PAIRS,
        crashes=_CRASHES,
        is_late=st.booleans(),
        is_http=st.booleans(),
        again=st.sampled_from(Again),
    )
    def post_in_a_row(
        self,
        pair: tuple[Batch, Batch],
        crashes: Sequence[Crash | None],
        is_late: bool,  # noqa: FBT001  # Hypothesis calls it by name
        is_http: bool,  # noqa: FBT001
        again: Again,
    ) -> None:
        """Either may crash or be halved; the second is decided before the first does or after."""
        first, second = (self._thought_of(moves, is_http=is_http) for moves in pair)
        if again is Again.SAME:
            second = [*second, first[0]]
        elif again is Again.OTHER:
            # It is recorded in its turn, as a key stands twice in it.
            second = [self._same_key(first[0]), *second, second[-1]]
        self._in_a_row(first, second, crashes=crashes, is_late=is_late)
        self._posted(first)
        self._posted(second)

    @rule(
        pair=_PAIRS,
        wallet_id=free,
        status=st.sampled_from([WalletStatus.ACTIVE, *WalletStatus]),
        is_early=st.booleans(),
    )
    def change_wallet_meanwhile(
        self,
        pair: tuple[Batch, Batch],
        wallet_id: UUID,
        status: WalletStatus,
        is_early: bool,  # noqa: FBT001
    ) -> None:
        """An administrator freezes, thaws or closes a wallet that either may write."""

        def change() -> None:
            self.model.wallets[wallet_id].status = status

        meddling = self.ledger.changing(wallet_id, status)
        first, second = (self._thought_of(moves) for moves in pair)
        self._in_a_row(first, second, meddling=meddling, is_early=is_early)
        self._came_beside(change, first, second, is_early=is_early)

    @rule(pair=_PAIRS, third=_MOVES, is_early=st.booleans())
    def post_another_meanwhile(
        self,
        pair: tuple[Batch, Batch],
        third: Batch,
        is_early: bool,  # noqa: FBT001
    ) -> None:
        """Another process posts to the same wallets."""
        other = self._thought_of(third)
        first, second = (self._thought_of(moves) for moves in pair)
        meddling = self.ledger.posting_beside(_items(other))
        self._in_a_row(first, second, meddling=meddling, is_early=is_early)
        self._came_beside(lambda: self._posted(other), first, second, is_early=is_early)

    @rule(pair=_PAIRS, is_early=st.booleans(), is_http=st.booleans())
    def take_over(
        self,
        pair: tuple[Batch, Batch],
        is_early: bool,  # noqa: FBT001
        is_http: bool,  # noqa: FBT001
    ) -> None:
        """Another process posts both, since this one seems to be dead before it could ack."""
        first, second = (self._thought_of(moves, is_http=is_http) for moves in pair)
        meddling = self.ledger.posting_beside(_items(first), _items(second))
        self._in_a_row(first, second, meddling=meddling, is_early=is_early)
        self._posted(first)
        self._posted(second)

    def _thought_of(self, moves: Batch, *, is_http: bool = True) -> list[Piece]:
        """Return new requests; those over HTTP are recorded."""
        commands = [
            self._command(move(kind, source, destination, minor, self._currency_of(known)))
            for kind, source, destination, minor in moves
            for known in [destination if kind == "deposit" else source]
        ]
        submissions = self._submissions(commands)
        if not is_http:
            return [Piece(one, None) for one in submissions]
        self._record(commands, is_announced=False)
        recorded = self.model.transactions
        return [Piece(one, recorded[one.command.idempotency_key].id) for one in submissions]

    def _same_key(self, piece: Piece) -> Piece:
        """Return a message with other content under a key that was used."""
        body = self.ledger.body_of(piece.submission.command)
        other = self.ledger.command({**body, "amount": format_minor(7, body["currency"])})
        return Piece(self._submissions([other])[0], None)

    def _currency_of(self, wallet_id: UUID) -> str:
        return self.model.wallets[wallet_id].currency

    def _in_a_row(
        self,
        first: Sequence[Piece],
        second: Sequence[Piece],
        *,
        crashes: Sequence[Crash | None] = (),
        is_late: bool = False,
        meddling: Meddling | None = None,
        is_early: bool = False,
    ) -> None:
        ahead = self.ledger.post_in_a_row(
            _items(first),
            _items(second),
            crashes=crashes,
            is_late=is_late,
            meddling=meddling,
            is_early=is_early,
        )
        self.pairs[ahead] += 1

    def _came_beside(
        self,
        other: Callable[[], None],
        first: Sequence[Piece],
        second: Sequence[Piece],
        *,
        is_early: bool,
    ) -> None:
        """What somebody else did went before the pair, or came anywhere beside it.

        The books are those of one of these orders, in all of which the second follows the first.
        """
        pair: list[Callable[[], None]] = [
            lambda: self._posted(first),
            lambda: self._posted(second),
        ]
        before, real = self.model, self._real()
        for place in range(1 if is_early else 3):
            self.model = deepcopy(before)
            for step in [*pair[:place], other, *pair[place:]]:
                step()
            if self.model.snapshot() == real:
                return
        raise AssertionError(f"the books are of no order: {real}")


def _items(pieces: Sequence[Piece]) -> list[Item]:
    return [piece.item for piece in pieces]


def test_a_batch_is_as_if_it_came_after_all_of_the_one_before(database_url: str) -> None:
    completed: Counter[TransactionType] = Counter()
    pairs: Counter[Ahead] = Counter()
    with open_ledger(database_url) as ledger:
        run_state_machine_as_test(
            lambda: PairMachine(ledger, completed, pairs),  # type: ignore[arg-type]  # any factory will do
            settings=settings(
                max_examples=max(1, settings().max_examples // EXAMPLES_SHARE),
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )
        assert ledger.drafts_posted() > 0
    # Each machine begins with a pair that can be; what is never sent ahead proves nothing about it.
    assert pairs[Ahead.WRITTEN] > 0, pairs
