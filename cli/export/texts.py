"""The words that plain-text accounting programs read: accounts, commodities, descriptions. Pure.

hledger, ledger and beancount share the shape of accounts and of postings; they differ in how a
commodity is quoted and in all directives, so each has a writer of its own.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final

from cli.export.book import BookLeg
from contracts.money import format_minor

_WALLETS: Final = "Assets:Wallets:W-"
# Both begin a comment or divide the payee from a note somewhere.
_MEANINGFUL: Final = str.maketrans(";|", "  ")
_HAS_DIGIT: Final = re.compile("[0-9]")
_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# A million references are written here, of ids that are all different: three digits at a time.
_TRIPLES: Final = tuple(map("".join, product(_BASE32, repeat=3)))
_ENDS: Final = tuple(map("".join, product(_BASE32, _BASE32[::4])))
_LOW: Final = 2**60 - 1
_BEANCOUNT_WORDS: Final = frozenset({"TRUE", "FALSE", "NULL"})


class Accounts:
    """Names of wallets as accounts. No name from people is in them.

    A customer's is `Assets:Wallets:W-<id>`: a component may not begin with a small letter, as an id
    may. Those of the house and of the world outside are few, and kept by their ids.
    """

    def __init__(self, kinds: Mapping[str, tuple[str, str]]) -> None:
        """`kinds` has the kind and currency of each wallet that is no customer's."""
        self._named = {
            wallet_id: _account(wallet_id, kind, currency)
            for wallet_id, (kind, currency) in kinds.items()
        }

    def __getitem__(self, wallet_id: str) -> str:
        return self._named.get(wallet_id) or f"{_WALLETS}{wallet_id}"

    def postings(self, legs: Sequence[BookLeg], commodity: Mapping[str, str]) -> str:
        """Return a line a leg, as all three programs read it; `commodity`: code to its writing."""
        named = self._named.get
        return "".join(
            [
                f"    {named(wallet_id) or f'{_WALLETS}{wallet_id}'}    "
                f"{format_minor(minor, currency)} {commodity[currency]}\n"
                for wallet_id, currency, minor, _ in legs
            ]
        )


def _account(wallet_id: str, kind: str, currency: str) -> str:
    if kind == "external":
        return f"Equity:External:{currency}"
    return f"Equity:Internal:W-{wallet_id}"


def reference_of_text(transaction_id: str) -> str:
    """Return a transaction's reference by its id as text; contracts.identifiers has its form."""
    number = int(transaction_id.replace("-", ""), 16)
    # 26 digits: eight times three, and two for the last 8 bits and two zeros. Written out.
    high, low = number >> 68, number >> 8 & _LOW
    return (
        f"TXN-{_TRIPLES[high >> 45]}{_TRIPLES[high >> 30 & 32767]}{_TRIPLES[high >> 15 & 32767]}"
        f"{_TRIPLES[high & 32767]}{_TRIPLES[low >> 45]}{_TRIPLES[low >> 30 & 32767]}"
        f"{_TRIPLES[low >> 15 & 32767]}{_TRIPLES[low & 32767]}{_ENDS[number & 255]}"
    )


def flat(text: str) -> str:
    """Return a text on one line: what is not visible, and `;` and `|`, become spaces.

    Spaces in a row become one, those at the ends go.
    """
    if not text.isprintable():
        text = "".join(one if one.isprintable() else " " for one in text)
    return " ".join(text.translate(_MEANINGFUL).split())


def description_of(description: str | None, kind: str) -> str:
    """Return what a transaction is called: its description, else its type."""
    return (flat(description) if description else "") or kind


def quoted_commodity(code: str) -> str:
    """Return a code as hledger and ledger read it: in quotes where it has a digit."""
    return f'"{code}"' if _HAS_DIGIT.search(code) else code


def beancount_commodity(code: str) -> str:
    """Return a code as beancount reads it.

    A slash goes before what begins with a digit or is a word of its language. Digits alone cannot
    be written; with `CODE-` before them they are no other code, since none has a hyphen.
    """
    if code.isdigit():
        return f"CODE-{code}"
    return f"/{code}" if code[0].isdigit() or code in _BEANCOUNT_WORDS else code


def beancount_string(text: str) -> str:
    r"""Return a string in quotes, with `\` and `"` escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
