"""Small worlds of wallets and transactions, where refusals of every kind are common."""

from typing import Final
from uuid import UUID

from hypothesis import strategies as st

from ledger.state import LedgerWallet, Movement
from ledger.words import MINOR_MAX, TransactionType, WalletKind, WalletStatus

CURRENCIES: Final = ("USD", "JPY")
EXTERNAL: Final = {code: UUID(int=1000 + n) for n, code in enumerate(CURRENCIES)}
_NAMED_IDS: Final = [UUID(int=n) for n in range(1, 7)]
_MISSING: Final = UUID(int=999)

_amounts = st.one_of(
    st.integers(1, 200), st.sampled_from([1, MINOR_MAX // 2, MINOR_MAX - 1, MINOR_MAX])
)

# How far below zero a wallet may be whose overdraft has no limit.
_DEPTHS: Final = st.sampled_from([0, -300, 25 - MINOR_MAX])


@st.composite
def named_wallets(draw: st.DrawFn) -> list[LedgerWallet]:
    """Return customers' wallets whose balances respect their limits, and the house's of any."""
    wallets = []
    for wallet_id in draw(st.lists(st.sampled_from(_NAMED_IDS), unique=True, max_size=6)):
        kind = draw(st.sampled_from([WalletKind.CUSTOMER] * 3 + [WalletKind.INTERNAL]))
        limit = draw(st.integers(0, 50)) if kind is WalletKind.CUSTOMER else 0
        held = draw(st.integers(0, 20))
        least = held - limit if kind is WalletKind.CUSTOMER else draw(_DEPTHS)
        wallets.append(
            LedgerWallet(
                id=wallet_id,
                kind=kind,
                currency=draw(st.sampled_from(CURRENCIES)),
                status=draw(st.sampled_from([WalletStatus.ACTIVE] * 8 + list(WalletStatus))),
                balance=draw(st.one_of(st.integers(least, 300), st.just(MINOR_MAX - 5))),
                held=held,
                overdraft_limit=limit,
                version=draw(st.integers(0, 9)),
            )
        )
    return wallets


@st.composite
def worlds(draw: st.DrawFn) -> list[LedgerWallet]:
    """Return wallets that clients name, and the external wallets of their currencies."""
    named = draw(named_wallets())
    outside = [
        LedgerWallet(EXTERNAL[code], WalletKind.EXTERNAL, code, WalletStatus.ACTIVE, 0, 0, 0, 0)
        for code in sorted({wallet.currency for wallet in named})
    ]
    return [*named, *outside]


@st.composite
def transactions(draw: st.DrawFn) -> list[Movement]:
    """Return transactions over the same few ids, missing and external ones among them."""
    some_wallet = st.sampled_from([*_NAMED_IDS, _MISSING, *EXTERNAL.values()])
    made = []
    for number in range(draw(st.integers(0, 12))):
        kind = draw(
            st.sampled_from(
                [TransactionType.DEPOSIT, TransactionType.WITHDRAWAL, TransactionType.TRANSFER]
            )
        )
        currency = draw(st.sampled_from(CURRENCIES))
        source, destination = draw(some_wallet), draw(some_wallet)
        made.append(
            Movement(
                id=UUID(int=10_000 + number),
                type=kind,
                source_wallet_id=EXTERNAL[currency] if kind == "deposit" else source,
                destination_wallet_id=EXTERNAL[currency] if kind == "withdrawal" else destination,
                amount=draw(_amounts),
                currency=currency,
            )
        )
    return made
