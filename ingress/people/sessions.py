"""Sessions: started by a login, kept by refresh tokens, and ended; and what logs tell of them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from contracts.people import LoginOutcome, UserStatus
from contracts.scopes import Role
from ingress.people.accounts import Origin, hash_of, new_token, token_invalid
from ingress.people.mails import new_login
from ingress.people.passwords import Passwords
from runtime.postgres.pool import UNREACHABLE, Pool, rows_changed
from runtime.postgres.queries import load_queries
from runtime.service.periodic import one_of, repeat

PURGE_INTERVAL_S: Final = 60.0
PURGED_MAX: Final = 1_000
"""Rows of one purge: a statement of milliseconds."""
KEPT_S: Final = 30 * 86_400.0
"""How long what is over is kept: a stolen token that turns up later is still told."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Grant:
    """What a login or a refresh token gives: whose session, and the next refresh token."""

    user_id: UUID
    session_id: UUID
    role: Role
    refresh_token: str


class Own(StrEnum):
    """What people may list of their own, by the name of the query."""

    SESSIONS = "list_sessions"
    LOGINS = "list_logins"
    NOTIFICATIONS = "list_notifications"


class SessionStore:
    """Sessions in the database, and the logs of a person's own."""

    def __init__(self, pool: Pool, passwords: Passwords, *, session_s: float) -> None:
        """`session_s`: how long a session lasts, however often its tokens are refreshed."""
        self._pool = pool
        self._passwords = passwords
        self._session_s = session_s
        self._sql = load_queries("ingress.people")

    async def run(self) -> None:
        """Remove what was over long ago, until cancelled."""
        await repeat(
            self.purge,
            every_s=PURGE_INTERVAL_S,
            is_passing=one_of(asyncpg.PostgresError, *UNREACHABLE),
            failed=lambda error: log.info("sessions_not_purged", error=repr(error)),
        )

    async def purge(self) -> float | None:
        """Remove at most so much; return 0 seconds to rest where there is more."""
        counts = [
            rows_changed(await self._pool.execute(self._sql[name], KEPT_S, PURGED_MAX))
            for name in ("purge_sessions", "purge_user_tokens")
        ]
        return 1.0 if PURGED_MAX in counts else None

    async def log_in(self, email: str, password: str, origin: Origin) -> Grant | None:
        """Start a session; None, after the same work, for whatever is wrong."""
        account = await self._pool.fetchrow(self._sql["read_credentials"], email)
        stored = None if account is None else account["password_hash"]
        is_right = await self._passwords.verify(stored, password)
        if account is not None and is_right and account["status"] == UserStatus.ACTIVE:
            current = await self._rehashed(account, password)
            grant = await self._start(account["id"], current, origin)
            if grant is not None:
                return grant
        await self._log_failure(account, email, origin, is_right=is_right)
        return None

    async def refresh(self, token: str, origin: Origin) -> Grant:
        """Exchange a refresh token; raises ContractError, and ends the session of a used one."""
        following = new_token("refresh")
        row = await self._pool.fetchrow(
            self._sql["rotate_refresh_token"],
            hash_of(token),
            hash_of(following),
            origin.address,
            origin.agent,
            origin.request_id,
        )
        if row is None:
            raise token_invalid()
        if not row["is_fresh"]:
            log.warning("refresh_token_reused", session_id=str(row["session_id"]))
            raise token_invalid()
        return Grant(row["user_id"], row["session_id"], Role(row["role"]), following)

    async def revoke(self, session_id: UUID, *, user_id: UUID) -> bool:
        """End a session of a user's own; return whether there is one of this id."""
        found = await self._pool.fetchval(self._sql["revoke_session"], session_id, user_id)
        return found is not None

    async def list_page(
        self, listing: Own, user_id: UUID, *, before: UUID, limit: int
    ) -> tuple[list[asyncpg.Record], UUID | None]:
        """Return a page of a user's own, the newest first, and where the next one starts."""
        rows = await self._pool.fetch(self._sql[listing], user_id, before, limit + 1)
        page = rows[:limit]
        return page, page[-1]["id"] if len(rows) > limit else None

    async def mark_read(self, notification_id: UUID, *, user_id: UUID) -> bool:
        """Mark a notification as read; return whether the user has one of this id."""
        found = await self._pool.fetchval(
            self._sql["mark_notification_read"], notification_id, user_id
        )
        return found is not None

    async def _start(self, user_id: UUID, known_hash: str, origin: Origin) -> Grant | None:
        token = new_token("refresh")
        mail = new_login(address=origin.address, agent=origin.agent)
        row = await self._pool.fetchrow(
            self._sql["start_session"],
            user_id,
            known_hash,
            hash_of(token),
            self._session_s,
            origin.address,
            origin.agent,
            *mail,
        )
        if row is None:
            return None
        return Grant(row["user_id"], row["session_id"], Role(row["role"]), token)

    async def _rehashed(self, account: asyncpg.Record, password: str) -> str:
        """Return what the password is stored as now: with today's parameters."""
        stored: str = account["password_hash"]
        if not self._passwords.is_outdated(stored):
            return stored
        fresh = await self._passwords.hash(password)
        changed = rows_changed(
            await self._pool.execute(self._sql["rehash_password"], account["id"], stored, fresh)
        )
        return fresh if changed else stored

    async def _log_failure(
        self, account: asyncpg.Record | None, email: str, origin: Origin, *, is_right: bool
    ) -> None:
        outcome = _outcome(account, is_right=is_right)
        log.info("login_failed", outcome=outcome, address=origin.address)
        await self._pool.execute(
            self._sql["insert_login_failure"],
            None if account is None else account["id"],
            email,
            origin.address,
            origin.agent,
            outcome,
        )


def _outcome(account: asyncpg.Record | None, *, is_right: bool) -> LoginOutcome:
    if account is None:
        return LoginOutcome.UNKNOWN_ADDRESS
    if account["status"] == UserStatus.UNCONFIRMED:
        return LoginOutcome.UNCONFIRMED
    if not is_right:
        return LoginOutcome.WRONG_PASSWORD
    # The password was right when it was read: it was changed, or the account disabled, since.
    return LoginOutcome.DISABLED
