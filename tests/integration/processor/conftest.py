"""One system for the modules of this folder that come in by the doors."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tests.support import Upstream
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
    """The HTTP door, for the submitter 'demo'."""
    return doors.api


@pytest.fixture(scope="package")
def upstream(doors: CheckedDoors) -> Upstream:
    """The AMQP door, for the same submitter."""
    return doors.upstream
