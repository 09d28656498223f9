"""Books that were tampered with: each of these must be found by every program. Pure.

It works on the text alone, of any of the three formats: transactions are divided by empty lines,
and a posting is `    ACCOUNT    AMOUNT COMMODITY`. So it knows nothing of how the text was written.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final

_POSTING: Final = re.compile(
    r"^    (?P<account>\S+)    (?P<sign>-?)(?P<digits>[0-9.]+) (?P<commodity>\S+)$"
)
_TRANSACTION: Final = re.compile(r"^\d{4}-\d{2}-\d{2} \* .*TXN-")


class UntouchableError(ValueError):
    """A book has no transaction of the kind that is to be tampered with."""


def move_smallest_unit(text: str) -> str:
    """Let a transaction between two wallets move one smallest unit more; it stays balanced."""

    def moved(block: list[str]) -> list[str] | None:
        legs = _legs(block)
        return [_with_one_unit_more(line) for line in block] if len(legs) == 2 else None  # noqa: PLR2004

    return _changed(text, moved)


def drop_conversion_legs(text: str) -> str:
    """Drop the legs in one of the currencies of a journal that has several; it stays balanced."""

    def dropped(block: list[str]) -> list[str] | None:
        commodities = [leg["commodity"] for leg in _legs(block)]
        if len(set(commodities)) == 1:
            return None
        return [line for line in block if not line.endswith(f" {commodities[-1]}")]

    return _changed(text, dropped)


def drop_transaction(text: str) -> str:
    """Drop a whole transaction."""
    return _changed(text, lambda _: [])


TAMPERINGS: Final[Mapping[str, Callable[[str], str]]] = {
    "one smallest unit moved": move_smallest_unit,
    "one currency's legs of a journal dropped": drop_conversion_legs,
    "one transaction dropped": drop_transaction,
}
"""What is done to a book, by the words for it."""


def _changed(text: str, change: Callable[[list[str]], list[str] | None]) -> str:
    """Return the text with the first transaction changed that `change` takes."""
    blocks = text.split("\n\n")
    for number, block in enumerate(blocks):
        lines = block.strip("\n").split("\n")
        if not _TRANSACTION.match(lines[0]):
            continue
        changed = change(lines)
        if changed is not None:
            blocks[number] = "\n".join(changed)
            return "\n\n".join(blocks)
    raise UntouchableError("no transaction of the book is of the kind that is to be changed")


def _legs(block: list[str]) -> list[re.Match[str]]:
    return [match for line in block if (match := _POSTING.match(line))]


def _with_one_unit_more(line: str) -> str:
    match = _POSTING.match(line)
    if match is None:
        return line
    digits = match["digits"]
    minor = int(digits.replace(".", "")) + 1
    decimals = len(digits.partition(".")[2])
    whole = f"{minor:0{decimals + 1}d}"
    amount = f"{whole[:-decimals]}.{whole[-decimals:]}" if decimals else whole
    return f"    {match['account']}    {match['sign']}{amount} {match['commodity']}"
