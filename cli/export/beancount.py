"""Books for beancount. Pure.

Every assertion has a tolerance of nothing (`~ 0`): without it half of a smallest unit or more would
pass. It holds for the beginning of its day, so what a day ends with is dated the day after.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from cli.export.book import Balance, BookAsset, BookTransaction, BookWallet
from cli.export.texts import (
    Accounts,
    beancount_commodity,
    beancount_string,
    description_of,
    flat,
    reference_of_text,
)
from contracts.money import format_minor

_BEGINNING = "1970-01-01"
_DAY = timedelta(days=1)


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
