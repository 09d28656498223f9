"""One system for all modules of a folder, whose conftest imports these fixtures."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, open_doors
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
    """The HTTP door, for the client and submitter 'demo' with every scope."""
    return doors.api
