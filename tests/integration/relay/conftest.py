"""Servers of these tests' own, since a broker is killed and blocked; a virtual host for each."""

from collections.abc import Iterator

import pytest

from tests.conftest import private_stack
from tools.stack import Stack


@pytest.fixture(scope="package")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Three servers that nobody else uses."""
    with private_stack(tmp_path_factory.mktemp("relay") / ".local") as started:
        yield started


@pytest.fixture
def broker(own_stack: Stack) -> Stack:
    """Whose broker it is."""
    return own_stack
