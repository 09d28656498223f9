"""One system for all modules of this folder: they name their own wallets and keys."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, MakeClient, client_maker
from tests.integration.ingress.shared_doors import api, doors

__all__ = ["api", "doors"]


@pytest.fixture(scope="package")
async def make_client(doors: CheckedDoors) -> AsyncIterator[MakeClient]:
    """Other clients, each a submitter of its own."""
    async with client_maker(doors) as make:
        yield make


@pytest.fixture(scope="package")
async def wallet(api: CheckedApi) -> str:
    """A USD wallet whose balance nobody asks for."""
    return await api.create_wallet()
