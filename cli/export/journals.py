"""Books for programs of plain text: hledger, ledger and beancount. Pure.

Balances are asserted by postings of nothing (`0.00 USD = 12.00 USD`), so that the programs' own
exit codes are the verdict. Ledger judges them in the order of the file, hledger by date and then by
that order: those of a day stand after all that happened on it. Beancount's have a tolerance of
nothing (`~ 0`): without it half of a smallest unit or more would pass. They hold for the beginning
of their day, so what a day ends with is dated the day after.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import date, timedelta

from cli.export.book import Balance, BookAsset, BookTransaction, BookWallet
from cli.export.texts import (
    Accounts,
    beancount_commodity,
    beancount_string,
    description_of,
    flat,
    quoted_commodity,
    reference_of_text,
)
from contracts.money import format_minor

_BEGINNING = "1970-01-01"
_DAY = timedelta(days=1)


class _JournalWriter(ABC):
    """What the two formats share."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._commodity: dict[str, str] = {}

    def heading(self, assets: Sequence[BookAsset]) -> str:
        self._commodity = {asset.code: quoted_commodity(asset.code) for asset in assets}
        return self._begin() + "".join(map(self._declare, assets)) + "\n"

    @abstractmethod
    def _begin(self) -> str:
        """Return how a file begins."""

    @abstractmethod
    def _declare(self, asset: BookAsset) -> str:
        """Return the declaration of a commodity."""

    def wallet(self, wallet: BookWallet) -> str:
        owner = flat(wallet.owner_id or "")
        note = f"    ; owner: {owner}\n" if owner else ""
        return f"account {self._accounts[wallet.id]}\n{note}"

    def opening(self, day: date, currency: str) -> str:
        return f"\n{day} * (opening) opening balances in {currency}\n"

    def opened(self, _: date, balances: Sequence[Balance]) -> str:
        return "".join(
            f"    {self._accounts[wallet_id]}    {self._amount(minor, currency)}\n"
            for wallet_id, currency, minor in balances
        )

    def transaction(self, transaction: BookTransaction) -> str:
        moment = transaction.completed_at
        return (
            f"\n{moment[:10]} * ({reference_of_text(transaction.id)}) "
            f"{description_of(transaction.description, transaction.type)}\n"
            f"    ; time: {moment[11:26]}\n    ; type: {transaction.type}\n"
            f"{self._accounts.postings(transaction.legs, self._commodity)}"
        )

    def closing(self, day: date, balances: Sequence[Balance]) -> str:
        return f"\n{day} * (closing) balances at the end of the day\n" + "".join(
            f"    {self._accounts[wallet_id]}    {self._amount(0, currency)} = "
            f"{self._amount(minor, currency)}\n"
            for wallet_id, currency, minor in balances
        )

    def _amount(self, minor: int, currency: str) -> str:
        return f"{format_minor(minor, currency)} {self._commodity[currency]}"


class HledgerWriter(_JournalWriter):
    """A journal that passes `hledger check --strict`."""

    def _begin(self) -> str:
        return "decimal-mark .\n"

    def _declare(self, asset: BookAsset) -> str:
        # Without a mark the number of decimals would be refused, also where there are none.
        return f"commodity 1000.{'0' * asset.exponent} {self._commodity[asset.code]}\n"


class LedgerWriter(_JournalWriter):
    """A journal that passes `ledger --pedantic`, which wants tags declared, too."""

    def _begin(self) -> str:
        return "tag owner\ntag time\ntag type\n"

    def _declare(self, asset: BookAsset) -> str:
        return f"commodity {self._commodity[asset.code]}\n"


class BeancountWriter:
    """A file that passes bean-check."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._commodity: dict[str, str] = {}

    def heading(self, assets: Sequence[BookAsset]) -> str:
        self._commodity = {asset.code: beancount_commodity(asset.code) for asset in assets}
        return "".join(
            f"{_BEGINNING} commodity {self._commodity[asset.code]}\n"
            f'  code: "{asset.code}"\n  decimals: {asset.exponent}\n'
            for asset in assets
        )

    def wallet(self, wallet: BookWallet) -> str:
        owner = flat(wallet.owner_id or "")
        note = f"  owner: {beancount_string(owner)}\n" if owner else ""
        account, commodity = self._accounts[wallet.id], self._commodity[wallet.currency]
        return f"{_BEGINNING} open {account} {commodity}\n{note}"

    def opening(self, day: date, currency: str) -> str:
        return f'\n{day} * "opening balances in {currency}"\n'

    def opened(self, _: date, balances: Sequence[Balance]) -> str:
        return "".join(
            f"    {self._accounts[wallet_id]}    "
            f"{format_minor(minor, currency)} {self._commodity[currency]}\n"
            for wallet_id, currency, minor in balances
        )

    def transaction(self, transaction: BookTransaction) -> str:
        moment = transaction.completed_at
        text = description_of(transaction.description, transaction.type)
        return (
            f"\n{moment[:10]} * {beancount_string(text)} ^{reference_of_text(transaction.id)}\n"
            f'  time: "{moment[11:26]}"\n  type: "{transaction.type}"\n'
            f"{self._accounts.postings(transaction.legs, self._commodity)}"
        )

    def closing(self, day: date, balances: Sequence[Balance]) -> str:
        return "\n" + "".join(
            f"{day + _DAY} balance {self._accounts[wallet_id]}    "
            f"{format_minor(minor, currency)} ~ 0 {self._commodity[currency]}\n"
            for wallet_id, currency, minor in balances
        )
