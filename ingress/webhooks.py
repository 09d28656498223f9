"""Webhooks in the database, as their owners make, change and look at them."""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from contracts.problems import ContractError, ProblemCode
from contracts.requests.webhook import WebhookChange, WebhookRequest
from contracts.scopes import Reach
from contracts.webhooks import (
    ROTATION_S,
    SECRET_BYTES,
    WEBHOOKS_MAX,
    DeliveryStatus,
    secret_text,
)
from ingress.access import holder_of
from ingress.authentication import Client
from ingress.people.mails import webhook_led
from runtime.postgres.audit import Trail, note_act
from runtime.postgres.pool import Connection, Pool
from runtime.postgres.queries import load_queries
from runtime.service.pagination import Examined, examine

RECOVERED_MAX: Final = 10_000
"""Deliveries that one call has sent again; whoever has more calls again."""


class WebhookStore:
    """Webhooks of callers. Whoever reaches all sees everybody's; another's is what there is not."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = load_queries("ingress")

    async def create(
        self, wanted: WebhookRequest, client: Client, trail: Trail
    ) -> tuple[asyncpg.Record, str]:
        """Make a webhook; return its row and its secret. Raises ContractError."""
        if client.user_id is not None and client.session_id is None:
            # Nobody here is told when another issuer takes somebody's rights away.
            raise ContractError(
                ProblemCode.INSUFFICIENT_SCOPE,
                "webhooks are for API keys and for people who have an account here",
            )
        secret = secret_text(secrets.token_bytes(SECRET_BYTES))
        holder = holder_of(client)
        async with self._pool.acquire() as connection, connection.transaction():
            # Two requests of one submitter wait for one another, and count what the other made.
            await connection.execute(self._sql["lock_webhooks_of"], client.name)
            count = await connection.fetchval(self._sql["count_webhooks"], client.name)
            if count >= WEBHOOKS_MAX:
                raise ContractError(
                    ProblemCode.WEBHOOK_LIMIT_REACHED,
                    f"there are {WEBHOOKS_MAX} already; delete one first",
                )
            row = await connection.fetchrow(
                self._sql["insert_webhook"],
                holder.name,
                holder.owner_id,
                client.reach,
                wanted.url,
                list(wanted.event_types),
                None if wanted.wallet_ids is None else list(wanted.wallet_ids),
                wanted.status,
            )
            if row is None:
                raise AssertionError("an insert returns its row")
            await connection.execute(self._sql["insert_webhook_secret"], row["id"], secret)
            await self._tell(connection, client, row["url"])
            await _note(connection, trail, "created", row["id"], {"url": row["url"]})
        return row, secret

    async def list_page(
        self, client: Client, *, transaction_id: UUID | None = None, after: UUID, limit: int
    ) -> tuple[Sequence[asyncpg.Record], UUID | None]:
        """Return a page of webhooks, and after which one the next page starts.

        `transaction_id`: only those that have deliveries of its events.
        """
        name: str = "list_webhooks"
        subject: tuple[str, ...] = ()
        if transaction_id is not None:
            name, subject = "list_transaction_webhooks", (str(transaction_id),)
        rows = await self._pool.fetch(
            self._sql[name], _submitter(client), after, limit + 1, *subject
        )
        page = rows[:limit]
        return page, page[-1]["id"] if len(rows) > limit else None

    async def read(self, client: Client, webhook_id: UUID) -> asyncpg.Record:
        """Return a webhook; raises ContractError where the caller has none of this id."""
        row = await self._pool.fetchrow(self._sql["read_webhook"], webhook_id, _submitter(client))
        if row is None:
            raise _not_found(webhook_id)
        return row

    async def change(
        self, client: Client, webhook_id: UUID, change: WebhookChange, trail: Trail
    ) -> asyncpg.Record:
        """Change what is named, and return the webhook; raises ContractError."""
        named = change.model_fields_set
        async with self._locked(client, webhook_id) as connection:
            row = await connection.fetchrow(
                self._sql["change_webhook"],
                webhook_id,
                change.url,
                None if "event_types" not in named else list(change.event_types),
                "wallet_ids" in named,
                None if change.wallet_ids is None else list(change.wallet_ids),
                change.status,
                client.reach,
            )
            if row is None:
                raise AssertionError("a locked row is changed")
            if "url" in named:
                await self._tell(connection, client, row["url"])
            detail = {"named": sorted(named), "url": row["url"], "status": row["status"]}
            await _note(connection, trail, "changed", webhook_id, detail)
        return row

    async def delete(self, client: Client, webhook_id: UUID, trail: Trail) -> None:
        """Send nothing to it any more; raises ContractError."""
        async with self._locked(client, webhook_id) as connection:
            await connection.execute(self._sql["delete_webhook"], webhook_id)
            await _note(connection, trail, "deleted", webhook_id)

    async def rotate(self, client: Client, webhook_id: UUID, trail: Trail) -> tuple[str, datetime]:
        """Make a new secret; return it, and until when the one before signs too."""
        secret = secret_text(secrets.token_bytes(SECRET_BYTES))
        async with self._locked(client, webhook_id) as connection:
            until: datetime = await connection.fetchval(
                self._sql["retire_webhook_secrets"], webhook_id, ROTATION_S
            )
            await connection.execute(self._sql["insert_webhook_secret"], webhook_id, secret)
            await _note(connection, trail, "secret_rotated", webhook_id)
        return secret, until

    async def list_deliveries(
        self,
        client: Client,
        webhook_id: UUID,
        *,
        status: DeliveryStatus | None,
        transaction_id: UUID | None = None,
        before: UUID,
        limit: int,
    ) -> tuple[Sequence[asyncpg.Record], UUID | None]:
        """Return a page of deliveries with their attempts; raises ContractError."""
        await self.read(client, webhook_id)
        name: str = "examine_deliveries"
        subject: tuple[str, ...] = ()
        if transaction_id is not None:
            name, subject = "examine_transaction_deliveries", (str(transaction_id),)

        async def step(start: UUID, count: int) -> Examined[UUID]:
            rows = await self._pool.fetch(
                self._sql[name], webhook_id, start, count, status, *subject
            )
            return [(row["id"], row["is_match"]) for row in rows]

        window = await examine(step, start=before, limit=limit)
        rows = await self._pool.fetch(self._sql["read_deliveries"], window.matches)
        by_id = {row["id"]: row for row in rows}
        return [by_id[one] for one in window.matches if one in by_id], window.next_start

    async def resend(
        self, client: Client, webhook_id: UUID, delivery_id: UUID, trail: Trail
    ) -> asyncpg.Record:
        """Have a delivery sent at once; raises ContractError."""
        async with self._locked(client, webhook_id) as connection:
            found = await connection.fetchval(self._sql["resend_delivery"], webhook_id, delivery_id)
            if found is None:
                raise ContractError(
                    ProblemCode.DELIVERY_NOT_FOUND, f"there is no delivery {delivery_id}"
                )
            await _note(connection, trail, "resent", webhook_id, {"delivery_id": str(delivery_id)})
            [row] = await connection.fetch(self._sql["read_deliveries"], [delivery_id])
        return row

    async def recover(self, client: Client, webhook_id: UUID, since: datetime, trail: Trail) -> int:
        """Have what failed since a moment sent again, RECOVERED_MAX at most; return how many."""
        async with self._locked(client, webhook_id) as connection:
            count: int = await connection.fetchval(
                self._sql["recover_deliveries"], webhook_id, since, RECOVERED_MAX
            )
            detail = {"since": since.isoformat(), "deliveries": count}
            await _note(connection, trail, "recovered", webhook_id, detail)
        return count

    async def _tell(self, connection: Connection, client: Client, url: str) -> None:
        """Tell a person: whoever has their session for a minute could have their events for years.

        The person who did it, whoever's it is: a thief has one session and no mailbox.
        """
        if client.user_id is not None:
            mail = webhook_led(url)
            await connection.execute(self._sql["insert_mail_to_user"], client.user_id, *mail)

    @asynccontextmanager
    async def _locked(self, client: Client, webhook_id: UUID) -> AsyncIterator[Connection]:
        """Hold a webhook for a change in one commit; raises ContractError."""
        async with self._pool.acquire() as connection, connection.transaction():
            found = await connection.fetchval(
                self._sql["lock_webhook"], webhook_id, _submitter(client)
            )
            if found is None:
                raise _not_found(webhook_id)
            yield connection


def _submitter(client: Client) -> str | None:
    """Whose webhooks a caller sees; None for everybody's."""
    return None if client.reach is Reach.ALL else client.name


def _not_found(webhook_id: UUID) -> ContractError:
    return ContractError(ProblemCode.WEBHOOK_NOT_FOUND, f"there is no webhook {webhook_id}")


async def _note(
    connection: Connection,
    trail: Trail,
    what: str,
    webhook_id: UUID,
    detail: Mapping[str, Any] | None = None,
) -> None:
    await note_act(
        connection,
        trail,
        action=f"webhook.{what}",
        subject=f"webhook:{webhook_id}",
        detail=detail,
    )
