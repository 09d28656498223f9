"""A private stack for each worker; a database and a virtual host for whoever asks for one."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import settings as hypothesis_settings

from cli.clients.management import Management
from runtime.amqp.topology import declare_topology
from runtime.postgres.migrate import load_migrations, migrate
from runtime.postgres.pool import connect
from runtime.service.settings import load_settings
from tests.support import Api, Upstream
from tools.settings import StackSettings
from tools.stack import Stack, StackOptions, add_upstream_user, add_vhost, remove_vhost, start_stack
from tools.stack.erlang import find_any
from tools.stack.probes import run_apart
from tools.system import System

# How long an example takes says how busy the machine is, and nothing about the code.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")

_ROOT = Path(__file__).parent.parent
_TEMPLATE = "ackledger_template"
_SERVERS = pytest.StashKey[str]()
_WORKER = "PYTEST_XDIST_WORKER"
"""Set by pytest-xdist in the processes among which it divides the tests."""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def pytest_report_header() -> list[str]:
    """Name the broker first where ACKLEDGER_STACK_BROKER_ROOT asks for another one than usual.

    What really answered stands at the end of the run.
    """
    options = StackOptions(environment=dict(os.environ))
    if options.broker_root is None:
        return []
    tree = find_any(options)
    return [f"broker: RabbitMQ {tree.version if tree else '?'} in {options.broker_root}"]


def pytest_configure() -> None:
    """Let Ctrl-C reach what the tests start: a shell's background job ignores it, for its heirs."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def private_stack(directory: Path, **wanted: Any) -> Stack:
    """Start servers in a directory, with the PostgreSQL that ACKLEDGER_STACK_POSTGRES names."""
    settings = load_settings(StackSettings, os.environ)
    return start_stack(
        StackOptions(
            directory=directory,
            environment=dict(os.environ),
            postgres=settings.stack_postgres,
            **wanted,
        )
    )


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    """PostgreSQL, RabbitMQ and Redis of this worker alone, started by the project itself."""
    directory = _ROOT / ".local" / "-".join(filter(None, ("test", os.environ.get(_WORKER))))
    with private_stack(directory) as running:
        pytestconfig.stash[_SERVERS] = run_apart(_servers(running))
        yield running
    if running.owned:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let the process that divided the tests know which servers this worker used."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["servers"] = session.config.stash.get(_SERVERS, None)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over which servers a worker used."""
    if servers := getattr(node, "workeroutput", {}).get("servers"):
        node.config.stash[_SERVERS] = servers


async def _servers(stack: Stack) -> str:
    """Say which servers this run is about, in their own words where they have a word for it."""
    connection = await connect(stack.postgres.url, name="test")
    version = await connection.fetchval("SHOW server_version")
    await connection.close()
    management_url = stack.rabbitmq.management_url
    assert management_url is not None
    overview = Management(management_url).call("GET", "/api/overview")
    erlang = f"Erlang {overview['erlang_version']}"
    return (
        f"PostgreSQL {version}, RabbitMQ {overview['rabbitmq_version']} on {erlang}, "
        f"Redis {stack.redis.version}"
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Tell the servers' versions at the end: a run on another one must not pass for this one."""
    if _SERVERS in config.stash:
        terminalreporter.write_line(f"ran on {config.stash[_SERVERS]}")


def named_database(stack: Stack, name: str) -> str:
    """Return the URL of another database of the stack's PostgreSQL."""
    return urlsplit(stack.postgres.url)._replace(path=f"/{name}").geturl()


@pytest.fixture(scope="session")
async def template(stack: Stack) -> str:
    """Make a migrated database once; every other is its clone."""
    admin = await connect(stack.postgres.url, name="test")
    await admin.execute(f"DROP DATABASE IF EXISTS {_TEMPLATE} WITH (FORCE)")
    await admin.execute(f"CREATE DATABASE {_TEMPLATE}")
    await admin.close()
    connection = await connect(named_database(stack, _TEMPLATE), name="test")
    await migrate(connection, load_migrations())
    await connection.close()
    return _TEMPLATE


MakeDatabase = Callable[[], "asyncio.Future[str]"]


async def create_database(stack: Stack, template: str) -> str:
    """Return the URL of a fresh migrated database."""
    name = f"test_{uuid4().hex[:12]}"
    admin = await connect(stack.postgres.url, name="test")
    # Copied as files, not by way of the log: hundreds of tests ask for one.
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    await admin.close()
    return named_database(stack, name)


async def drop_database(stack: Stack, url: str) -> None:
    """Remove a database, whoever is still connected."""
    admin = await connect(stack.postgres.url, name="test")
    await admin.execute(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def database_url(stack: Stack, template: str) -> AsyncIterator[str]:
    """A fresh migrated database."""
    url = await create_database(stack, template)
    yield url
    await drop_database(stack, url)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Connection]:
    """A connection to a fresh migrated database."""
    connection = await connect(database_url, name="test")
    yield connection
    await connection.close()


@pytest.fixture
async def empty_database_url(stack: Stack) -> AsyncIterator[str]:
    """A database without a single table."""
    name = f"test_{uuid4().hex[:12]}"
    admin = await connect(stack.postgres.url, name="test")
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    url = named_database(stack, name)
    yield url
    await drop_database(stack, url)


@pytest.fixture(scope="module")
def vhost_url(stack: Stack) -> Iterator[str]:
    """The AMQP URL of a fresh virtual host, with the topology declared."""
    name = f"test_{uuid4().hex[:12]}"
    url = add_vhost(stack, name)
    yield url
    remove_vhost(stack, name)


@dataclass(frozen=True)
class Doors:
    """A running system and what reaches it."""

    system: System
    api: Api
    upstream: Upstream
    database_url: str
    amqp_url: str


@pytest.fixture(scope="module")
async def doors(
    stack: Stack, template: str, vhost_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Doors]:
    """A whole system on a database and a virtual host of its own, with clients on both doors."""
    url = await create_database(stack, template)
    await declare_topology(vhost_url, partitions=1)
    environment = {
        "DATABASE_URL": url,
        "AMQP_URL": vhost_url,
        "REDIS_URL": stack.redis.url,
        "ACKLEDGER_STALE_AFTER_S": "2",
        "ACKLEDGER_RECONCILE_INTERVAL_S": "0.5",
    }
    system = System(
        environment=environment,
        directory=tmp_path_factory.mktemp("system"),
        identify=stack.as_process,
        say=lambda _: None,
    )
    vhost = urlsplit(vhost_url).path[1:]
    upstream_url = await asyncio.to_thread(
        add_upstream_user, stack, "demo", _demo_password(stack), vhost=vhost
    )
    async with (
        system,
        Api(system.http_url, system.api_key) as api,
        Upstream(upstream_url, user="demo") as upstream,
    ):
        yield Doors(system, api, upstream, url, vhost_url)
    await drop_database(stack, url)


def _demo_password(stack: Stack) -> str:
    """One password for the whole run: the user is the broker's, not the virtual host's."""
    return f"demo-{urlsplit(stack.rabbitmq.url).port}"
