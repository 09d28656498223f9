"""What a batch's events are told of its wallets beside their entries."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from contracts.representations.event import ALL_WALLETS
from ledger.state import LedgerWallet, Movement
from ledger.words import TransactionType, WalletKind, WalletStatus
from processor.deciding import Decided, VersionedWallet, Writing, decide_batch

_LIMITS = st.tuples(st.integers(0, 2), st.integers(0, 2))


def _decided(limits: list[tuple[int, int]]) -> Decided:
    """Decide a move from each of some wallets to the next one."""
    ids = [UUID(int=number) for number in range(len(limits))]
    known = {
        one: VersionedWallet(
            LedgerWallet(
                one, WalletKind.CUSTOMER, "USD", WalletStatus.ACTIVE, 9, held, overdraft_limit, 0
            ),
            Writing(1),
        )
        for one, (held, overdraft_limit) in zip(ids, limits, strict=True)
    }
    moves = [
        Movement(UUID(int=100 + one.int), TransactionType.TRANSFER, one, other, 1, "USD")
        for one, other in zip(ids, [*ids[1:], ids[0]], strict=True)
    ]
    return decide_batch(known, moves, rules_version=0, screening=None)


@given(st.lists(_LIMITS, min_size=2, max_size=6))
def test_what_no_move_changes_is_told_of_every_wallet(limits: list[tuple[int, int]]) -> None:
    told = _decided(limits).limits

    for number, expected in enumerate(limits):
        found = told.get(str(UUID(int=number))) or told.get(ALL_WALLETS) or (0, 0)
        assert tuple(found) == expected


@given(_LIMITS, st.integers(2, 6))
def test_what_is_the_same_of_all_is_told_once(limits: tuple[int, int], wallets: int) -> None:
    told = _decided([limits] * wallets).limits

    assert told == ({ALL_WALLETS: [*limits]} if any(limits) else {})
