"""Stacks of these tests' own, beside whatever stack the rest of the suite uses."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tools.stack.starting import default_ports_taken, options, processes_of
from tools.stack import Stack, start_stack, stop_stack

ENDED_WITHIN_S = 5.0
"""A shell that a server had started ends a moment after it."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack that this process owns, while the default ports are taken."""
    directory = tmp_path_factory.mktemp("owned") / ".local"
    with default_ports_taken():
        running = start_stack(options(directory))
        yield running
        running.stop(graceful=False)
    assert processes_of(directory, ended_within_s=ENDED_WITHIN_S) == []


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A stack directory that is left without a process, whatever the test did."""
    path = tmp_path / ".local"
    yield path
    stop_stack(path)


@pytest.fixture(scope="session")
def nothing_left() -> Callable[[Path], None]:
    """The check that no process of a directory lives."""

    def check(directory: Path) -> None:
        assert processes_of(directory, ended_within_s=ENDED_WITHIN_S) == []

    return check
