"""The cache of written wallets is bounded, and forgets the oldest first."""

from uuid import UUID

from ledger.state import LedgerWallet
from ledger.words import WalletKind, WalletStatus
from processor.deciding import WalletCache, Writing


def _wallet(number: int) -> LedgerWallet:
    return LedgerWallet(
        UUID(int=number), WalletKind.CUSTOMER, "USD", WalletStatus.ACTIVE, number, 0, 0, 1
    )


def _cache(*, generation_max: int, wallets: int) -> WalletCache:
    cache = WalletCache(generation_max=generation_max)
    for number in range(wallets):
        cache.keep([_wallet(number)], Writing(number))
    return cache


def test_two_generations_are_kept_and_the_oldest_are_missing() -> None:
    cache = _cache(generation_max=10, wallets=25)

    found, missing = cache.find([UUID(int=number) for number in range(25)])

    assert [one.writing.row_version for one in found.values()] == list(range(10, 25))
    assert [one.int for one in missing] == list(range(10))


def test_the_newest_version_of_a_wallet_is_found() -> None:
    cache = _cache(generation_max=2, wallets=3)
    cache.keep([_wallet(0)], Writing(99))

    found, _ = cache.find([UUID(int=0)])

    assert found[UUID(int=0)].writing.row_version == 99


def test_a_cache_of_no_size_keeps_nothing() -> None:
    cache = _cache(generation_max=0, wallets=3)

    assert cache.find([UUID(int=0)]) == ({}, [UUID(int=0)])


def test_a_cleared_cache_keeps_nothing() -> None:
    cache = _cache(generation_max=2, wallets=3)
    cache.clear()

    assert cache.find([UUID(int=0), UUID(int=2)]) == ({}, [UUID(int=0), UUID(int=2)])


def test_a_batch_that_is_kept_before_its_commit_is_ahead_until_then() -> None:
    cache = _cache(generation_max=2, wallets=1)
    writing = Writing()
    before = cache.is_ahead
    cache.keep([_wallet(1)], writing)
    meanwhile = cache.is_ahead
    writing.row_version = 7

    assert (before, meanwhile, cache.is_ahead) == (False, True, False)
