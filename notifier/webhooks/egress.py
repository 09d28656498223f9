"""Sending to addresses that clients name: nowhere but where everybody may go, and never further.

A name is looked up once for each connection, and the connection goes to an address that was looked
at. An answer that redirects is an answer; nothing follows it.
"""

import asyncio
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from contracts.webhooks import WebhookTargets, is_public, url_fault

TIMEOUT_S: Final = 15.0
"""For a whole attempt: the receiver takes it down and answers, and works afterwards."""
ANSWER_OCTETS_MAX: Final = 64 * 1024
"""Of a body that is read, so that its connection can be used again; nobody looks at it."""
CONNECTIONS_MAX: Final = 200
ERROR_MAX: Final = 200
"""Characters of what went wrong."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt."""

    seconds: float
    status: int | None = None
    error: str | None = None

    @property
    def is_taken(self) -> bool:
        """Whether the receiver has it."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004, as HTTP has it


class PublicResolver(AbstractResolver):
    """Looks names up, and answers only where every address is one that everybody can reach."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return a name's addresses; raises OSError where one of them is not public.

        The same where there are none: which names there are inside is nobody's business.
        """
        try:
            found = await self._resolver.resolve(host, port, family)
        except OSError:
            found = []
        if not found or not all(is_public(one["host"]) for one in found):
            raise OSError("the name leads to no address, or to one of a private network")
        return found

    async def close(self) -> None:
        """Close what it looks names up with."""
        await self._resolver.close()


class Egress:
    """Posts bodies; connections are kept for the next."""

    def __init__(self, targets: WebhookTargets, *, user_agent: str) -> None:
        self._targets = targets
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Send a body, and say what came of it; raises nothing but a cancellation."""
        began = time.monotonic()
        fault = url_fault(url, self._targets)
        if fault is not None:
            # It was named when more was allowed.
            return Outcome(0.0, error=f"the address {fault}")
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._post(url, body, headers)
        except TimeoutError:
            return Outcome(time.monotonic() - began, error=f"no answer within {TIMEOUT_S:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(time.monotonic() - began, error=_told(error))
        return Outcome(time.monotonic() - began, status=status)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        if self._session is None:
            self._session = self._opened()
        async with self._session.post(
            URL(url, encoded=True), data=body, headers=headers, allow_redirects=False
        ) as response:
            await response.content.read(ANSWER_OCTETS_MAX)
            return response.status

    def _opened(self) -> aiohttp.ClientSession:
        is_public_only = self._targets is WebhookTargets.PUBLIC
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=PublicResolver() if is_public_only else ThreadedResolver(),
                use_dns_cache=False,
                limit=CONNECTIONS_MAX,
            ),
            headers={"User-Agent": self._user_agent},
            # A cookie of one receiver is none of another's.
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            auto_decompress=False,
        )


def _told(error: BaseException) -> str:
    """Say what went wrong without what the receiver sent."""
    causes: Sequence[BaseException | None] = (error.__cause__, error)
    os_error = next((one for one in causes if isinstance(one, OSError)), None)
    if os_error is not None and (os_error.strerror or str(os_error)):
        return (os_error.strerror or str(os_error))[:ERROR_MAX]
    return type(error).__name__
