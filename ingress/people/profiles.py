"""Accounts as their owners and administrators see and change them."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from contracts.people import UserStatus
from contracts.problems import ContractError, ProblemCode
from contracts.requests.people import ProfileChange, UserChange
from contracts.scopes import Role
from ingress.people.accounts import AccountStore, Origin
from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries
from runtime.service.pagination import Examined, examine

LAST_ID: Final = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class UserFilter:
    """What a list of users is narrowed to; deleted ones only where `status` asks for them."""

    email: str | None
    role: Role | None
    status: UserStatus | None


class ProfileStore:
    """Users, read and changed."""

    def __init__(self, pool: Pool, accounts: AccountStore) -> None:
        """`accounts` notes what administrators do."""
        self._pool = pool
        self._accounts = accounts
        self._sql = load_queries("ingress.people")

    async def read(self, user_id: UUID) -> asyncpg.Record | None:
        """Return one user."""
        return await self._pool.fetchrow(self._sql["read_user"], user_id)

    async def change_own(self, user_id: UUID, change: ProfileChange) -> asyncpg.Record | None:
        """Return an ACTIVE user, changed."""
        return await self._pool.fetchrow(
            self._sql["change_profile"],
            user_id,
            "name" in change.model_fields_set,
            change.name,
            change.is_mail_wanted,
        )

    async def change(
        self, user_id: UUID, change: UserChange, *, actor: str, origin: Origin
    ) -> asyncpg.Record | None:
        """Return a user whose role or status was changed; None for an id that there is not.

        Raises ContractError for a change that cannot be made.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            user = await connection.fetchrow(self._sql["lock_user"], user_id)
            if user is None:
                return None
            role, status = changed_state(user, change)
            if status is UserStatus.DISABLED:
                await connection.execute(self._sql["revoke_sessions"], user_id, None)
                await connection.execute(self._sql["spend_user_tokens"], user_id)
            await self._accounts.note(
                connection, actor, "user.changed", user_id, origin, role=role, status=status
            )
            return await connection.fetchrow(self._sql["change_user"], user_id, role, status)

    async def list_page(
        self, wanted: UserFilter, *, before: UUID, limit: int
    ) -> tuple[list[asyncpg.Record], UUID | None]:
        """Return a page of users, the newest first, and where the next one starts."""
        name = "examine_users" if wanted.email is None else "examine_user_of_email"
        email = () if wanted.email is None else (wanted.email,)

        async def step(start: UUID, count: int) -> Examined[UUID]:
            rows = await self._pool.fetch(
                self._sql[name], start, count, wanted.role, wanted.status, *email
            )
            return [(row["id"], row["is_match"]) for row in rows]

        window = await examine(step, start=before, limit=limit)
        rows = await self._pool.fetch(self._sql["read_users"], window.matches)
        by_id = {row["id"]: row for row in rows}
        return [by_id[one] for one in window.matches if one in by_id], window.next_start


def changed_state(user: asyncpg.Record, change: UserChange) -> tuple[Role, UserStatus]:
    """Return a locked user's role and status after a change; raises ContractError. Pure."""
    status = UserStatus(user["status"])
    if status is UserStatus.DELETED:
        raise ContractError(ProblemCode.USER_NOT_CHANGEABLE, "the account is deleted")
    if change.status is UserStatus.ACTIVE and user["confirmed_at"] is None:
        raise ContractError(ProblemCode.USER_NOT_CHANGEABLE, "the address is not confirmed")
    return change.role or Role(user["role"]), change.status or status
