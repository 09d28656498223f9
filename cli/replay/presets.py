"""Presets: ready mappings of files that many people have."""

from typing import Final

from cli.replay.mapping import ColumnMapping, Field, RowType

PRESETS: Final = {
    # The table `trans` of the PKDD'99 Discovery Challenge ("Berka"): a Czech bank, anonymised.
    # PRIJEM is a credit; VYDAJ a debit, and VYBER another debit, paid out in cash.
    "berka": ColumnMapping(
        columns={
            Field.IDEMPOTENCY_KEY: "trans_id",
            Field.WALLET: "account_id",
            Field.TYPE: "type",
            Field.AMOUNT: "amount",
            Field.DESCRIPTION: "operation",
        },
        types={
            "PRIJEM": RowType.DEPOSIT,
            "VYDAJ": RowType.WITHDRAWAL,
            "VYBER": RowType.WITHDRAWAL,
        },
        currency="CZK",
        key_prefix="berka-",
        makes_wallets=True,
    ),
}
