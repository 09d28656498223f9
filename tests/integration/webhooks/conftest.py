"""A whole system with a notifier, in which people sign in, for all modules of this folder."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from ingress.people.token_keys import TokenKeys
from runtime.postgres.pool import connect
from tests.conftest import Connection
from tests.end_to_end.traces import TraceReceiver
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, MakeClient, client_maker, open_doors
from tests.integration.people.issuing import OtherIssuer
from tests.integration.people.persons import People
from tests.integration.webhooks.receiver import Receiver
from tools.stack import Stack
from tools.system import MOVING_MONEY, Instance, Role


@pytest.fixture(scope="package")
async def other_issuer() -> AsyncIterator[OtherIssuer]:
    """Somebody else who says who people are."""
    async with OtherIssuer() as issuer:
        yield issuer


@pytest.fixture(scope="package")
async def traces() -> AsyncIterator[TraceReceiver]:
    """A receiver of spans."""
    async with TraceReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="package")
async def doors(
    stack: Stack,
    template: str,
    traces: TraceReceiver,
    tmp_path_factory: pytest.TempPathFactory,
    other_issuer: OtherIssuer,
) -> AsyncIterator[CheckedDoors]:
    """A whole system that may send to this machine."""
    keys = tmp_path_factory.mktemp("keys") / "tokens"
    TokenKeys(keys).rotate(datetime.now(tz=UTC))
    settings = {
        "ACKLEDGER_WEBHOOK_TARGETS": "any",
        "OTEL_EXPORTER_OTLP_ENDPOINT": traces.url,
        "ACKLEDGER_TOKEN_KEYS": str(keys),
        "ACKLEDGER_TOKEN_ISSUERS": other_issuer.setting,
        "ACKLEDGER_RATE_LIMITS": "anonymous=none login=none authenticated=none",
    }
    async with open_doors(
        stack,
        template,
        tmp_path_factory.mktemp("system"),
        instances=(*MOVING_MONEY, Instance(role=Role.NOTIFIER)),
        settings=settings,
    ) as opened:
        yield opened


@pytest.fixture(scope="package")
async def make_client(doors: CheckedDoors) -> AsyncIterator[MakeClient]:
    """Other clients, each a submitter of its own."""
    async with client_maker(doors) as make:
        yield make


@pytest.fixture(scope="package")
async def people(doors: CheckedDoors) -> AsyncIterator[People]:
    """The door that people come through."""
    async with CheckedApi(doors.system.http_url, None) as nobody:
        yield People(doors, nobody)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of this test's own."""
    async with Receiver.open() as opened:
        yield opened


@pytest.fixture
async def database(doors: CheckedDoors) -> AsyncIterator[Connection]:
    """A connection to the system's database."""
    connection = await connect(doors.database_url, name="test")
    yield connection
    await connection.close()
