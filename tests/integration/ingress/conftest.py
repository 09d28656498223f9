"""One system for all modules of this folder: they name their own wallets and keys."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import (
    CheckedDoors,
    MakeClient,
    client_maker,
    open_doors,
)
from tools.stack import Stack


@pytest.fixture(scope="package")
async def doors(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    """A whole system, shared by the modules of this folder."""
    async with open_doors(stack, template, tmp_path_factory.mktemp("system")) as opened:
        yield opened


@pytest.fixture(scope="package")
def api(doors: CheckedDoors) -> CheckedApi:
    """The client 'demo', with every scope."""
    return doors.api


@pytest.fixture(scope="package")
async def make_client(doors: CheckedDoors) -> AsyncIterator[MakeClient]:
    """Other clients, each a submitter of its own."""
    async with client_maker(doors) as make:
        yield make


@pytest.fixture(scope="package")
async def wallet(api: CheckedApi) -> str:
    """A USD wallet whose balance nobody asks for."""
    return await api.create_wallet()
