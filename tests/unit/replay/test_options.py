"""Options over a preset, and the wrong ones named."""

import pytest

from cli.failures import UsageError
from cli.replay.mapping import Field, RowType
from cli.replay.options import mapping_of


def test_options_win_over_the_preset_and_leave_the_rest() -> None:
    mapping = mapping_of(
        preset="berka", columns=["amount=castka"], types=["VYBER=transfer"], key_prefix=""
    )

    assert mapping.columns[Field.AMOUNT] == "castka"
    assert mapping.columns[Field.WALLET] == "account_id"
    assert mapping.types["VYBER"] is RowType.TRANSFER
    assert (mapping.currency, mapping.key_prefix, mapping.makes_wallets) == ("CZK", "", True)


def test_a_word_for_a_type_may_hold_an_equals_sign() -> None:
    assert mapping_of(types=["a=b=deposit"]).types == {"a=b": RowType.DEPOSIT}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"columns": ["amount"]}, "--map amount"),
        ({"columns": ["betrag=x"]}, "--map betrag=x"),
        ({"types": ["PRIJEM=credit"]}, "--type-map PRIJEM=credit"),
        ({"types": ["=deposit"]}, "--type-map =deposit"),
        ({"currency": "czk"}, "--currency czk"),
        ({"key_prefix": "my run "}, "--key-prefix"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        mapping_of(**options)  # type: ignore[arg-type]
