"""From the accounts that a file names to wallets: found or made through the HTTP door."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote

from ackledger.client.asynchronous import AsyncClient
from cli.failures import RefusedError
from cli.replay.mapping import Account, Draft
from contracts.requests.validators import IDEMPOTENCY_KEY_MAX

ACCOUNTS_MAX: Final = 1_000_000
"""Accounts of one file, held in memory: a million of them take some 300 MB."""


class AccountWallets:
    """The wallet of each account and currency.

    The same account finds the same wallet every time, in another run, too: its creation carries an
    idempotency key that is derived from the account.
    """

    def __init__(self, client: AsyncClient, *, key_prefix: str, at_once: int) -> None:
        """`at_once` bounds the wallets that are being made at one time."""
        self._client = client
        self._key_prefix = key_prefix
        self._slots = asyncio.Semaphore(at_once)
        self._wallets: dict[Account, str] = {}

    def __len__(self) -> int:
        return len(self._wallets)

    async def find(self, drafts: Iterable[Draft]) -> None:
        """Find or make the wallet of every account that these drafts name."""
        wanted = {account: None for draft in drafts for account in draft.accounts}
        missing = [one for one in wanted if one not in self._wallets]
        if len(self._wallets) + len(missing) > ACCOUNTS_MAX:
            raise RefusedError(f"the file names more than {ACCOUNTS_MAX} accounts; split it")
        async with asyncio.TaskGroup() as group:
            for account in missing:
                group.create_task(self._find(account))

    def of(self, draft: Draft) -> Mapping[Account, str]:
        """Return the wallet id of each account of a draft; `find` has been called with it."""
        return {account: self._wallets[account] for account in draft.accounts}

    async def _find(self, account: Account) -> None:
        name, currency = account
        async with self._slots:
            wallet = await self._client.create_wallet(
                currency=currency,
                owner_id=name,
                idempotency_key=wallet_key(name, currency, key_prefix=self._key_prefix),
            )
        self._wallets[account] = str(wallet.id)


def wallet_key(account: str, currency: str, *, key_prefix: str) -> str:
    """Return the idempotency key under which an account's wallet is made."""
    key = f"{key_prefix}wallet/{currency}/{quote(account, safe='')}"
    if len(key) <= IDEMPOTENCY_KEY_MAX:
        return key
    return f"{key_prefix}wallet/{currency}/sha256/{hashlib.sha256(account.encode()).hexdigest()}"
