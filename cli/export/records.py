"""Books as CSV and as lines of JSON: every text unchanged. Pure."""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Final

import orjson

from cli.export.book import Balance, BookAsset, BookTransaction, BookWallet
from cli.export.texts import reference_of_text
from contracts.money import format_minor

COLUMNS: Final = (
    "record",
    "date",
    "completed_at",
    "transaction_id",
    "reference",
    "type",
    "submitter",
    "idempotency_key",
    "reverses",
    "wallet_id",
    "sequence",
    "amount",
    "currency",
    "description",
)


class CsvWriter:
    """RFC 4180 with LF: a row a leg, and a row for each balance at the beginning and the ends."""

    def heading(self, _: Sequence[BookAsset]) -> str:
        return ",".join(COLUMNS) + "\n"

    def wallet(self, _: BookWallet) -> str:
        return ""

    def opening(self, _day: date, _currency: str) -> str:
        return ""

    def opened(self, day: date, balances: Sequence[Balance]) -> str:
        return _balance_rows("opening", day, balances)

    def transaction(self, transaction: BookTransaction) -> str:
        moment = transaction.completed_at
        before = (
            f"leg,{moment[:10]},{moment},{transaction.id},{reference_of_text(transaction.id)},"
            f"{transaction.type},{_cell(transaction.submitter)},"
            f"{_cell(transaction.idempotency_key)},{transaction.reverses or ''}"
        )
        description = _cell(transaction.description or "")
        return "".join(
            [
                f"{before},{wallet_id},{sequence},{format_minor(minor, currency)},{currency},"
                f"{description}\n"
                for wallet_id, currency, minor, sequence in transaction.legs
            ]
        )

    def closing(self, day: date, balances: Sequence[Balance]) -> str:
        return _balance_rows("closing", day, balances)


def _balance_rows(record: str, day: date, balances: Iterable[Balance]) -> str:
    return "".join(
        f"{record},{day},,,,,,,,{wallet_id},,{format_minor(minor, currency)},{currency},\n"
        for wallet_id, currency, minor in balances
    )


def _cell(text: str) -> str:
    if '"' in text or "," in text or "\n" in text or "\r" in text:
        return '"' + text.replace('"', '""') + '"'
    return text


class JsonLinesWriter:
    """A JSON object a line: assets, wallets, openings, transactions with their legs, closings."""

    def heading(self, assets: Sequence[BookAsset]) -> str:
        return _lines({"record": "asset", **asset._asdict()} for asset in assets)

    def wallet(self, wallet: BookWallet) -> str:
        return _lines([{"record": "wallet", **wallet._asdict()}])

    def opening(self, _day: date, _currency: str) -> str:
        return ""

    def opened(self, day: date, balances: Sequence[Balance]) -> str:
        return _lines(_balance("opening", day, one) for one in balances)

    def transaction(self, transaction: BookTransaction) -> str:
        moment = transaction.completed_at
        legs = [
            {
                "wallet_id": wallet_id,
                "sequence": int(sequence) if sequence else None,
                "amount": format_minor(minor, currency),
                "currency": currency,
            }
            for wallet_id, currency, minor, sequence in transaction.legs
        ]
        return _line(
            {
                "record": "transaction",
                "date": moment[:10],
                "completed_at": moment,
                "transaction_id": transaction.id,
                "reference": reference_of_text(transaction.id),
                "type": transaction.type,
                "submitter": transaction.submitter,
                "idempotency_key": transaction.idempotency_key,
                "reverses": transaction.reverses,
                "description": transaction.description,
                "legs": legs,
            }
        )

    def closing(self, day: date, balances: Sequence[Balance]) -> str:
        return _lines(_balance("closing", day, one) for one in balances)


def _balance(record: str, day: date, balance: Balance) -> dict[str, Any]:
    return {
        "record": record,
        "date": day,
        "wallet_id": balance.wallet_id,
        "balance": format_minor(balance.minor, balance.currency),
        "currency": balance.currency,
    }


def _lines(documents: Iterable[dict[str, Any]]) -> str:
    return "".join(map(_line, documents))


def _line(document: dict[str, Any]) -> str:
    return orjson.dumps(document, default=str, option=orjson.OPT_APPEND_NEWLINE).decode()
