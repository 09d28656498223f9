"""A page of entries is written as its model would be."""

from datetime import UTC
from typing import Any, Final

import orjson
from hypothesis import given
from hypothesis import strategies as st

from contracts.money import exponent_of
from contracts.representations.wallet import entry_page, render_wallet_entry
from ledger.words import TransactionType

_COLUMNS: Final = (
    "number",
    "wallet_id",
    "sequence",
    "transaction_id",
    "amount",
    "balance_after",
    "created_at",
    "type",
    "description",
    "currency",
)
_MINOR: Final = st.integers(-(10**18), 10**18)
_CURRENCIES: Final = st.sampled_from(["USD", "JPY", "BHD"])
_ENTRIES: Final = st.tuples(
    st.integers(1, 16),
    st.uuids(),
    st.integers(1, 2**63 - 1),
    st.uuids(),
    _MINOR,
    _MINOR,
    st.datetimes(timezones=st.just(UTC)),
    st.sampled_from([one.value for one in TransactionType]),
    st.none() | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    _CURRENCIES,
)


@given(rows=st.lists(_ENTRIES, max_size=4), cursor=st.none() | st.text("abc-_09", min_size=1))
def test_a_written_page_is_what_the_model_s_entries_come_to(
    rows: list[tuple[Any, ...]], cursor: str | None
) -> None:
    views = [render_wallet_entry(dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    assert entry_page(rows, cursor) == orjson.dumps({"items": views, "next_cursor": cursor})


def test_the_currencies_differ_in_their_decimals() -> None:
    assert {exponent_of(one) for one in ("USD", "JPY", "BHD")} == {0, 2, 3}
