"""A line to a server that can be unplugged, and that can fall silent."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tools.chaos.proxy import Proxy


class Line(Proxy):
    """A proxy whose troubles begin with one call and end with another, each made at any time."""

    url = ""
    """Of the server, by this line."""

    def unplug(self) -> None:
        """End every connection and take no new one, as a server that is down."""
        self.is_refusing = True
        self.cut()

    def fall_silent(self) -> None:
        """Forward nothing in either direction, as a network that swallows packets."""
        self.flowing.clear()

    def plug(self) -> None:
        """Forward again."""
        self.is_refusing = False
        self.flowing.set()


@asynccontextmanager
async def line_to(url: str) -> AsyncIterator[Line]:
    """Give a line to the server of a URL; its own URL leads through it."""
    async with Line.to(url) as line:
        line.url = line.through(url)
        yield line
