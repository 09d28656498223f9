"""Bodies of requests for a state machine; amounts in minor units of the wallets' currency. Pure."""

from typing import Any
from uuid import UUID

from contracts.money import format_minor

Body = dict[str, Any]


def one_wallet(wallet_id: UUID, side: str, minor: int, currency: str) -> Body:
    """Return an amount, its currency and the wallet at one side ("source" or "destination")."""
    return {
        f"{side}_wallet_id": str(wallet_id),
        "amount": format_minor(minor, currency),
        "currency": currency,
    }


def two_wallets(source: UUID, destination: UUID, minor: int, currency: str) -> Body:
    """Return the same with a wallet at each side."""
    paid = one_wallet(source, "source", minor, currency)
    return {**paid, "destination_wallet_id": str(destination)}


def move(kind: str, source: UUID, destination: UUID, minor: int, currency: str) -> Body:
    """Return a request of a type that names no other transaction; odd holds name who is paid."""
    match kind:
        case "deposit":
            body = one_wallet(destination, "destination", minor, currency)
        case "withdrawal":
            body = one_wallet(source, "source", minor, currency)
        case "hold" if minor % 2 == 0:
            body = one_wallet(source, "source", minor, currency)
        case _:
            body = two_wallets(source, destination, minor, currency)
    return {"type": kind, **body}


def journal(currency: str, *legs: tuple[UUID | None, int]) -> Body:
    """Return a journal of legs: a wallet, or None for the world outside, and a signed amount."""
    return {
        "type": "journal",
        "legs": [
            {
                **({"external": True} if wallet is None else {"wallet_id": str(wallet)}),
                "amount": format_minor(minor, currency),
                "currency": currency,
            }
            for wallet, minor in legs
        ],
    }
