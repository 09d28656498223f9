"""A system in which people sign in, for all modules of this folder."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingress.people.token_keys import TokenKeys
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.integration.people.issuing import OtherIssuer
from tests.integration.people.persons import People
from tools.stack import Stack


@pytest.fixture(scope="package")
def keys_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the keys of access tokens are."""
    directory = tmp_path_factory.mktemp("keys") / "tokens"
    TokenKeys(directory).rotate(datetime.now(tz=UTC))
    return directory


@pytest.fixture(scope="package")
async def other_issuer() -> AsyncIterator[OtherIssuer]:
    """Somebody else who says who people are."""
    async with OtherIssuer() as issuer:
        yield issuer


@pytest.fixture(scope="package")
async def doors(
    stack: Stack,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
    keys_directory: Path,
    other_issuer: OtherIssuer,
) -> AsyncIterator[CheckedDoors]:
    """A whole system, shared by the modules of this folder."""
    settings = {
        "ACKLEDGER_TOKEN_KEYS": str(keys_directory),
        "ACKLEDGER_TOKEN_ISSUERS": other_issuer.setting,
        "ACKLEDGER_FIRST_WALLET_CURRENCY": "EUR",
        # All of these people come from one address, and try many a wrong password.
        "ACKLEDGER_RATE_LIMITS": "anonymous=none login=none authenticated=none",
        "ACKLEDGER_LOGIN_FREE_ATTEMPTS": "1000000",
        "ACKLEDGER_LOGIN_FREE_ATTEMPTS_PER_ADDRESS": "1000000",
    }
    directory = tmp_path_factory.mktemp("system")
    async with open_doors(stack, template, directory, settings=settings) as opened:
        yield opened


@pytest.fixture(scope="package")
async def people(doors: CheckedDoors) -> AsyncIterator[People]:
    """The door that people come through."""
    async with CheckedApi(doors.system.http_url, None) as nobody:
        yield People(doors, nobody)
