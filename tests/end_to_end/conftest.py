"""Servers of these tests' own, since they are stopped and killed, and a system on them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import pytest

from tests.conftest import private_stack
from tests.end_to_end.traces import TraceReceiver
from tests.support import Api, Upstream
from tools.stack import Stack, add_upstream_user
from tools.system import Instance, Role, System


@dataclass(frozen=True)
class Plant:
    """A system with a standby processor, on servers that may be stopped."""

    stack: Stack
    system: System
    api: Api
    upstream_url: str
    traces: TraceReceiver
    """What `limited`, the processors and the reconciler export."""

    @property
    def database_url(self) -> str:
        """Where the books are."""
        return self.stack.postgres.url

    @property
    def limited_url(self) -> str:
        """The second ingress, which limits each client's rate."""
        return self.system.http_urls["limited"]

    def upstream(self) -> Upstream:
        """A client of the AMQP door."""
        return Upstream(self.upstream_url, user="demo")


TRACED = {"limited", "processor", "standby", "reconciler"}
"""What exports spans: the first ingress is as it is without a receiver."""

INSTANCES = (
    Instance(role=Role.INGRESS),
    Instance(
        role=Role.INGRESS,
        name="limited",
        environment={"ACKLEDGER_RATE_LIMIT_PER_S": "5", "ACKLEDGER_RATE_LIMIT_BURST": "5"},
    ),
    Instance(role=Role.PROCESSOR),
    Instance(role=Role.PROCESSOR, name="standby"),
    Instance(role=Role.RECONCILER),
)


@pytest.fixture(scope="package")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Three servers that nobody else uses."""
    directory = tmp_path_factory.mktemp("faults") / ".local"
    # Ours is made below: the stack's own would get a new password at each start.
    with private_stack(directory, upstream_users=()) as running:
        yield running


@pytest.fixture(scope="package")
async def traces() -> AsyncIterator[TraceReceiver]:
    """A receiver of spans."""
    async with TraceReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="package")
async def plant(
    own_stack: Stack, traces: TraceReceiver, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Plant]:
    """Two ingresses, two processors and a reconciler on those servers."""
    upstream_url = add_upstream_user(own_stack, "demo", "demo")
    system = System(
        environment={
            "DATABASE_URL": own_stack.postgres.url,
            "AMQP_URL": own_stack.rabbitmq.url,
            "REDIS_URL": own_stack.redis.url,
            "ACKLEDGER_STALE_AFTER_S": "2",
            "ACKLEDGER_RECONCILE_INTERVAL_S": "0.5",
            "ACKLEDGER_LOG_LEVEL": "debug",
        },
        directory=tmp_path_factory.mktemp("plant"),
        identify=own_stack.as_process,
        instances=[_traced(one, traces.url) for one in INSTANCES],
        say=lambda _: None,
    )
    async with system, Api(system.http_url, system.api_key) as api:
        yield Plant(own_stack, system, api, upstream_url, traces)


def _traced(instance: Instance, url: str) -> Instance:
    if instance.label not in TRACED:
        return instance
    return replace(
        instance,
        environment={**instance.environment, "OTEL_EXPORTER_OTLP_ENDPOINT": url},
    )


@pytest.fixture
async def survivors(plant: Plant) -> AsyncIterator[dict[str, int | None]]:
    """The processes before a test. Whoever died in it comes back, so that one fault stays one."""
    names = [instance.label for instance in INSTANCES]
    yield {name: plant.system.pid(name) for name in names}
    for name in names:
        if plant.system.pid(name) is None:
            await asyncio.to_thread(plant.system.restart, name)
