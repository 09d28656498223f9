"""Accounts as people make them: registered, confirmed, and with a password that can be changed.

Whatever is done to an account is done under its row's lock, so that two who do something at the
same time take turns.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from contracts.identifiers import external_wallet_id
from contracts.money import currency_refusal
from contracts.people import TokenPurpose, UserStatus, submitter_of
from contracts.problems import ContractError, ProblemCode
from ingress.people import mails
from ingress.people.mails import CONFIRM_S, RESET_S, Mail
from runtime.postgres.audit import Trail, note_act
from runtime.postgres.pool import Connection, Pool, rows_changed
from runtime.postgres.queries import load_queries

TOKEN_BYTES: Final = 32
"""256 random bits: too many to guess, so a plain hash is enough to store a token by."""
TOKENS_PER_HOUR_MAX: Final = 5
"""Mails of one purpose to one address: nobody's mailbox is filled by asking for them."""
CLOSED_WITH_ACCOUNT_MAX: Final = 1_000
"""Wallets that are closed in one commit with their owner's account."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from, as the logs of logins and deeds keep it."""

    address: str | None
    agent: str | None
    request_id: str


def new_token(purpose: str) -> str:
    """Return a secret that says what it is for, and that log lines never show."""
    return f"ack_{purpose}_{secrets.token_urlsafe(TOKEN_BYTES)}"


def hash_of(token: str) -> bytes:
    """Return what a token is stored and looked up by."""
    return hashlib.sha256(token.encode()).digest()


def token_invalid() -> ContractError:
    """Return what is wrong with a token that was used, is over, or never was one."""
    return ContractError(
        ProblemCode.TOKEN_INVALID, "the token was used before, is over, or never was one"
    )


class AccountStore:
    """Accounts in the database."""

    def __init__(self, pool: Pool, *, first_wallet_currency: str | None) -> None:
        """`first_wallet_currency`: a confirmed person begins with a wallet in it, if it is one."""
        self._pool = pool
        self._first_wallet_currency = first_wallet_currency
        self._resets: dict[str, asyncio.Task[None]] = {}
        """Requests that are under way, by their address."""
        self._sql = {**load_queries("ingress"), **load_queries("ingress.people")}

    async def register(self, email: str, *, password_hash: str, name: str | None) -> None:
        """Send whoever has the address a mail: to confirm it, or that they have an account."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(self._sql["insert_user"], email)
            user = await self._locked_by_email(connection, email)
            if user["status"] == UserStatus.UNCONFIRMED:
                await self._send_token(
                    connection,
                    user,
                    TokenPurpose.CONFIRM,
                    mails.confirmation,
                    content=(password_hash, name, CONFIRM_S),
                )
            elif user["status"] == UserStatus.ACTIVE:
                await self._send_token(connection, user, TokenPurpose.RESET, mails.known_address)

    async def request_reset(self, email: str) -> None:
        """Send whoever has an account under the address a mail to set the password anew.

        All that ask for one address at one time are one request: they would wait for the account's
        lock, with a connection each, and by that wait tell that there is an account.
        """
        under_way = self._resets.get(email)
        if under_way is None:
            under_way = asyncio.ensure_future(self._request_reset(email))
            self._resets[email] = under_way
            under_way.add_done_callback(lambda _: self._resets.pop(email, None))
        await asyncio.shield(under_way)

    async def _request_reset(self, email: str) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            user = await connection.fetchrow(self._sql["lock_user_by_email"], email)
            if user is not None and user["status"] in {UserStatus.ACTIVE, UserStatus.UNCONFIRMED}:
                await self._send_token(connection, user, TokenPurpose.RESET, mails.reset)

    async def confirm(self, token: str, origin: Origin) -> asyncpg.Record:
        """Return the account that a token has confirmed; raises ContractError."""
        found = await self._token(token, TokenPurpose.CONFIRM)
        async with self._pool.acquire() as connection, connection.transaction():
            await self._spend(connection, token, found)
            user = await connection.fetchrow(
                self._sql["confirm_user"], found["user_id"], found["password_hash"], found["name"]
            )
            if user is None:
                raise token_invalid()
            await self._begin(connection, user["id"], origin)
            return user

    async def email_of_reset(self, token: str) -> str:
        """Return the address that a token resets the password of; raises ContractError."""
        found = await self._token(token, TokenPurpose.RESET)
        return str(found["email"])

    async def reset_password(self, token: str, *, password_hash: str, origin: Origin) -> None:
        """Set a password anew, and end every session; raises ContractError."""
        found = await self._token(token, TokenPurpose.RESET)
        user_id = found["user_id"]
        async with self._pool.acquire() as connection, connection.transaction():
            user = await self._spend(connection, token, found)
            if user["status"] not in {UserStatus.ACTIVE, UserStatus.UNCONFIRMED}:
                raise token_invalid()
            await self._set_password(connection, user, password_hash, kept_session_id=None)
            await self._note_own(connection, user_id, "user.password_reset", origin)
            if user["status"] == UserStatus.UNCONFIRMED:
                await self._begin(connection, user_id, origin)

    async def change_password(
        self, user_id: UUID, *, known_hash: str, password_hash: str, kept: UUID, origin: Origin
    ) -> bool:
        """Change a password that is still `known_hash`, and end every session but `kept`.

        Return whether it still was.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            user = await self._locked(connection, user_id)
            if user["password_hash"] != known_hash or user["status"] != UserStatus.ACTIVE:
                return False
            await self._set_password(connection, user, password_hash, kept_session_id=kept)
            await self._note_own(connection, user_id, "user.password_changed", origin)
            return True

    async def delete(self, user_id: UUID, *, known_hash: str, origin: Origin) -> bool:
        """Delete an account whose password is still `known_hash`; return whether it still was.

        Its wallets are closed in the same commit. Raises ContractError where one is not empty, or
        is frozen: whoever is to be stopped would begin anew under the same address.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            user = await self._locked(connection, user_id)
            if user["password_hash"] != known_hash or user["status"] != UserStatus.ACTIVE:
                return False
            closed = await close_owner_wallets(connection, user_id, may_be_frozen=False)
            await connection.execute(self._sql["delete_user"], user_id)
            await connection.execute(self._sql["revoke_sessions"], user_id, None)
            await connection.execute(self._sql["spend_user_tokens"], user_id)
            await self._send(connection, user["email"], mails.ACCOUNT_DELETED)
            await self._note_own(connection, user_id, "user.deleted", origin, closed_wallets=closed)
            return True

    async def read_credentials(self, user_id: UUID) -> asyncpg.Record:
        """Return an ACTIVE user's own; raises ContractError where it is none any more."""
        row = await self._pool.fetchrow(self._sql["read_own_credentials"], user_id)
        if row is None:
            raise ContractError(ProblemCode.UNAUTHENTICATED, "the account is not ACTIVE any more")
        return row

    async def note(
        self,
        connection: Connection,
        actor: str,
        action: str,
        user_id: UUID,
        origin: Origin,
        **detail: Any,
    ) -> None:
        """Note in the audit log what was done to a user, in the same commit as the deed."""
        await note_act(
            connection,
            # A person's address stays in the log of logins, where it can be erased.
            Trail(actor, request_id=origin.request_id),
            action=action,
            subject=f"user:{user_id}",
            detail=detail,
        )

    async def _note_own(
        self, connection: Connection, user_id: UUID, action: str, origin: Origin, **detail: Any
    ) -> None:
        await self.note(connection, submitter_of(user_id), action, user_id, origin, **detail)

    async def _locked_by_email(self, connection: Connection, email: str) -> asyncpg.Record:
        user = await connection.fetchrow(self._sql["lock_user_by_email"], email)
        if user is None:
            # Deleted between the two statements: the address is free now.
            raise ContractError(ProblemCode.DATABASE_UNAVAILABLE, "send it again")
        return user

    async def _locked(self, connection: Connection, user_id: UUID) -> asyncpg.Record:
        user = await connection.fetchrow(self._sql["lock_user"], user_id)
        if user is None:
            raise AssertionError("a user's row stays")
        return user

    async def _token(self, token: str, purpose: TokenPurpose) -> asyncpg.Record:
        row = await self._pool.fetchrow(self._sql["read_user_token"], hash_of(token), purpose)
        if row is None:
            raise token_invalid()
        return row

    async def _spend(
        self, connection: Connection, token: str, found: asyncpg.Record
    ) -> asyncpg.Record:
        """Use a token, and with it all of its user's; return the user, locked.

        The user is locked first, so that two tokens of one user never wait for each other.
        """
        user = await self._locked(connection, found["user_id"])
        if await connection.fetchval(self._sql["spend_user_token"], hash_of(token)) is None:
            raise token_invalid()
        await connection.execute(self._sql["spend_user_tokens"], found["user_id"])
        return user

    async def _send_token(
        self,
        connection: Connection,
        user: asyncpg.Record,
        purpose: TokenPurpose,
        mail_of: Callable[[str], Mail],
        *,
        content: tuple[str | None, str | None, float] = (None, None, RESET_S),
    ) -> None:
        """Make a token and a mail with it; nothing where the user has had too many of late."""
        token = new_token(purpose)
        made = await connection.fetchval(
            self._sql["insert_user_token"],
            hash_of(token),
            user["id"],
            purpose,
            *content,
            TOKENS_PER_HOUR_MAX,
        )
        if made is None:
            log.info("user_tokens_bounded", user_id=str(user["id"]), purpose=purpose)
            return
        await self._send(connection, user["email"], mail_of(token))

    async def _send(self, connection: Connection, address: str, mail: Mail) -> None:
        await connection.execute(self._sql["insert_mail"], address, *mail)

    async def _set_password(
        self,
        connection: Connection,
        user: asyncpg.Record,
        password_hash: str,
        *,
        kept_session_id: UUID | None,
    ) -> None:
        await connection.execute(self._sql["set_password"], user["id"], password_hash)
        await connection.execute(self._sql["revoke_sessions"], user["id"], kept_session_id)
        await connection.execute(self._sql["spend_user_tokens"], user["id"])
        await self._send(connection, user["email"], mails.PASSWORD_CHANGED)

    async def _begin(self, connection: Connection, user_id: UUID, origin: Origin) -> None:
        """Give a person who was confirmed what they begin with."""
        await self._note_own(connection, user_id, "user.confirmed", origin)
        currency = self._first_wallet_currency
        if currency is None:
            return
        refusal = currency_refusal(currency)
        if refusal is not None:
            # An account without a wallet is better than none.
            log.error("first_wallet_not_made", currency=currency, refusal=refusal)
            return
        external_id = external_wallet_id(currency)
        await connection.execute(self._sql["insert_external_wallet"], external_id, currency)
        await connection.execute(self._sql["insert_first_wallet"], str(user_id), currency)


async def close_owner_wallets(
    connection: Connection, user_id: UUID, *, may_be_frozen: bool
) -> list[str]:
    """Close an owner's wallets, all of them empty, and return their ids; raises ContractError."""
    sql = load_queries("ingress.people")
    locked = await connection.fetch(
        sql["lock_owner_wallets"], str(user_id), CLOSED_WITH_ACCOUNT_MAX + 1
    )
    ids = [row["id"] for row in locked]
    filled = await connection.fetchval(sql["count_filled_wallets"], ids)
    if filled or len(ids) > CLOSED_WITH_ACCOUNT_MAX:
        raise ContractError(
            ProblemCode.WALLET_NOT_EMPTY, "bring your wallets to zero, and close them, first"
        )
    if not may_be_frozen and await connection.fetchval(sql["count_frozen_wallets"], ids):
        raise ContractError(
            ProblemCode.INSUFFICIENT_SCOPE,
            "a wallet of yours is frozen: ask whoever runs the service",
        )
    closed = rows_changed(await connection.execute(sql["close_wallets"], ids))
    if closed != len(ids):
        raise AssertionError("locked wallets can be closed")
    return [str(wallet_id) for wallet_id in ids]
