"""The history that growth is measured on is one that posting could have made."""

from contracts.identifiers import external_wallet_id
from runtime.postgres.queries import load_queries
from tests.conftest import Connection
from tools.bench.cases.growth import shift_of
from tools.bench.laying import make_wallets
from verification.verify import verify

_WALLETS = 40
_ROUNDS = 45  # more than there are wallets, so that every distance comes


async def test_a_long_history_verifies_clean_and_returns_every_balance(
    database: Connection,
) -> None:
    sql = load_queries("tools.bench")
    await make_wallets(database, rich=_WALLETS, poor=0)
    await database.execute(sql["number_wallets"])

    for number in range(_ROUNDS):
        await database.execute(sql["add_history"], _WALLETS, shift_of(number, _WALLETS))

    report = await verify(database, pending_max_s=300)
    assert report.to_json()["findings"] == []
    assert (report.transactions, report.entries) == (_WALLETS * _ROUNDS, 2 * _WALLETS * _ROUNDS)
    rows = await database.fetch(
        "SELECT balance, version FROM wallets WHERE id <> $1 AND kind = 'customer'",
        external_wallet_id("USD"),
    )
    assert {(row["balance"], row["version"]) for row in rows} == {(0, 2 * _ROUNDS)}


async def test_history_goes_on_behind_what_was_posted_meanwhile(database: Connection) -> None:
    sql = load_queries("tools.bench")
    await make_wallets(database, rich=_WALLETS, poor=0)
    await database.execute(sql["number_wallets"])
    await database.execute(sql["add_history"], _WALLETS, 3)
    await make_wallets(database, rich=_WALLETS, poor=0)
    await database.execute(sql["number_wallets"])

    await database.execute(sql["add_history"], 2 * _WALLETS, 5)
    await database.execute(sql["pass_sweep"])

    report = await verify(database, pending_max_s=300)
    assert report.to_json()["findings"] == []
    assert report.transactions == 3 * _WALLETS
