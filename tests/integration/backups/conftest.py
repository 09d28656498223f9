"""A server of the test's own: it is destroyed and restored."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtime.service.settings import load_settings
from tests.integration.backups.ground import Ground
from tools.settings import StackSettings
from tools.stack import StackOptions


@asynccontextmanager
async def _running(directory: Path) -> AsyncIterator[Ground]:
    settings = load_settings(StackSettings, os.environ)
    options = StackOptions(
        directory=directory, environment=dict(os.environ), postgres=settings.stack_postgres
    )
    ground = Ground(directory, options)
    try:
        await ground.begin()
        yield ground
    finally:
        await ground.end()


@pytest.fixture
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    """A running PostgreSQL without a back-up."""
    async with _running(tmp_path / ".local") as running:
        yield running


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Ground]:
    """Another one, made anew."""
    async with _running(tmp_path / "other" / ".local") as running:
        yield running
