"""Plain requests: the common shape of a transaction's body, read without the model.

Nearly every request is plain, and the model takes ten times as long to read it. Whatever is not
plain, or not valid, is the model's to judge: a property test holds the two against each other.
"""

import re
from typing import Any, Final, NamedTuple
from uuid import UUID

from asyncpg.pgproto import pgproto
from pydantic_core import PydanticCustomError

from contracts.money import AMOUNT_MINOR_MAX, EXPONENTS
from contracts.requests.validators import METADATA_VALUES_MAX, storable_text, written_metadata


class PlainRequest(NamedTuple):
    """A valid request, but for its key, which stands here as it was sent."""

    type: str
    source_wallet_id: UUID | None
    destination_wallet_id: UUID | None
    minor: int
    currency: str
    description: str | None
    metadata: bytes
    idempotency_key: str | None


_FIELDS: Final = frozenset(
    {
        "type",
        "source_wallet_id",
        "destination_wallet_id",
        "amount",
        "currency",
        "description",
        "metadata",
        "idempotency_key",
    }
)
# Which wallets a type names: (source, destination).
_LEGS: Final = {
    "deposit": (False, True),
    "withdrawal": (True, False),
    "transfer": (True, True),
}
# So few digits that no currency's minor units leave 64 bits.
_AMOUNT: Final = re.compile(r"([0-9]{1,14})(?:\.([0-9]{1,4}))?", re.ASCII)
_SCALARS: Final = frozenset({str, int, bool, type(None)})


def plain_request(body: object) -> PlainRequest | None:
    """Return what a decoded body asks for if it is plain and valid, else None."""
    if type(body) is not dict or not body.keys() <= _FIELDS:
        return None
    get = body.get
    kind, amount, currency, key = (
        get("type"),
        get("amount"),
        get("currency"),
        get("idempotency_key"),
    )
    # Exactly texts: only then may they be looked up in tables.
    if not (
        type(kind) is type(amount) is type(currency) is str and (key is None or type(key) is str)
    ):
        return None
    legs = _LEGS.get(kind)
    minor = _minor_of(amount, currency)
    if legs is None or not minor or minor > AMOUNT_MINOR_MAX:
        return None
    try:
        source = _wallet_id(get("source_wallet_id"), is_wanted=legs[0])
        destination = _wallet_id(get("destination_wallet_id"), is_wanted=legs[1])
        description = get("description")
        if description is not None:
            storable_text(description)
        metadata = _metadata(body["metadata"]) if "metadata" in body else b"{}"
    except (ValueError, PydanticCustomError):
        return None
    return PlainRequest(kind, source, destination, minor, currency, description, metadata, key)


def _minor_of(amount: str, currency: str) -> int | None:
    """Minor units of digits with at most as many decimals as the currency has, else None."""
    exponent = EXPONENTS.get(currency)
    match = _AMOUNT.fullmatch(amount)
    if match is None or exponent is None:
        return None
    whole, fraction = match.groups("")
    if len(fraction) > exponent:
        return None
    return int(whole + fraction.ljust(exponent, "0"))


def _wallet_id(text: object, *, is_wanted: bool) -> UUID | None:
    """A UUID in its canonical form where one is wanted; raises ValueError for anything else."""
    if not is_wanted and text is None:
        return None
    if not is_wanted or type(text) is not str:
        raise ValueError
    # asyncpg's UUID is the standard one in every respect, and ten times as quick to read and write.
    wallet_id: UUID = pgproto.UUID(text)
    if str(wallet_id) != text:
        raise ValueError
    return wallet_id


def _metadata(value: Any) -> bytes:
    """Metadata whose values are texts, whole numbers, booleans and nulls; raises otherwise."""
    if type(value) is not dict or len(value) > METADATA_VALUES_MAX:
        raise ValueError
    if not _SCALARS.issuperset(map(type, value.values())):
        raise ValueError
    return written_metadata(value)
