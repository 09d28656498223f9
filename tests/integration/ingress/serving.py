"""A system that several modules share, and clients with keys of their own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from cli.api_keys import create_api_key
from contracts.scopes import KEY_SCOPES, Reach, Scope
from runtime.amqp.topology import declare_topology
from runtime.postgres.pool import connect
from tests.conftest import create_database, drop_database
from tests.integration.ingress.document import CheckedApi
from tests.support import Upstream
from tools.stack import Stack, add_upstream_user, add_vhost, remove_vhost
from tools.system import MOVING_MONEY, Instance, System

ALL_SCOPES = KEY_SCOPES
MakeClient = Callable[..., Awaitable[CheckedApi]]


@dataclass(frozen=True)
class CheckedDoors:
    """A running system, and clients on both doors that are one submitter."""

    stack: Stack
    system: System
    api: CheckedApi
    upstream: Upstream
    database_url: str
    amqp_url: str

    @property
    def vhost(self) -> str:
        """The virtual host of this system alone."""
        return urlsplit(self.amqp_url).path[1:]


@asynccontextmanager
async def open_doors(
    stack: Stack,
    template: str,
    directory: Path,
    *,
    instances: Sequence[Instance] | Callable[[str], Sequence[Instance]] = MOVING_MONEY,
    partitions: int = 1,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[CheckedDoors]:
    """Run a system on a database and a virtual host of its own.

    `instances` may be made of the URL of that host; `settings` win over what tests usually have.
    """
    name = f"test_{uuid4().hex[:12]}"
    amqp_url = await asyncio.to_thread(add_vhost, stack, name)
    database_url = await create_database(stack, template)
    await declare_topology(amqp_url, partitions=partitions)
    environment = {
        "DATABASE_URL": database_url,
        "AMQP_URL": amqp_url,
        "REDIS_URL": stack.redis.url,
        "ACKLEDGER_STALE_AFTER_S": "2",
        "ACKLEDGER_RECONCILE_INTERVAL_S": "0.5",
        "ACKLEDGER_PARTITIONS": str(partitions),
        **(settings or {}),
    }
    system = System(
        environment=environment,
        directory=directory,
        identify=stack.as_process,
        instances=instances(amqp_url) if callable(instances) else instances,
        say=lambda _: None,
    )
    password = f"demo-{urlsplit(stack.rabbitmq.url).port}"
    upstream_url = await asyncio.to_thread(add_upstream_user, stack, "demo", password, vhost=name)
    async with (
        system,
        CheckedApi(system.http_url, system.api_key) as api,
        Upstream(upstream_url, user="demo") as upstream,
    ):
        yield CheckedDoors(stack, system, api, upstream, database_url, amqp_url)
    await drop_database(stack, database_url)
    await asyncio.to_thread(remove_vhost, stack, name)


@asynccontextmanager
async def client_maker(doors: CheckedDoors) -> AsyncIterator[MakeClient]:
    """Make clients with keys of their own; all are closed at the end."""
    async with AsyncExitStack() as clients:

        async def make(
            client: str | None = None,
            scopes: Collection[Scope] = ALL_SCOPES,
            reach: Reach = Reach.ALL,
        ) -> CheckedApi:
            name = client or f"c{uuid4().hex}"
            key = await new_api_key(doors.database_url, name, scopes, reach)
            return await clients.enter_async_context(CheckedApi(doors.system.http_url, key))

        yield make


async def new_api_key(
    database_url: str,
    client: str,
    scopes: Collection[Scope] = ALL_SCOPES,
    reach: Reach = Reach.ALL,
) -> str:
    """Return a new key."""
    connection = await connect(database_url, name="test")
    try:
        _, key = await create_api_key(
            connection, client=client, scopes=scopes, actor="test", reach=reach
        )
    finally:
        await connection.close()
    return key
