"""Whether those who follow events may still have them: asked every second, once for each token."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

import structlog

from contracts.problems import ContractError
from contracts.scopes import Scope
from ingress.authentication import LOOKUP_MAX, Authenticator
from runtime.resilience.error_classification import is_transient
from runtime.service.batcher import BatcherFullError

INTERVAL_S: Final = 1.0
"""Between two rounds. A look-up is good for as long, so a revocation is felt in twice that."""

log = structlog.get_logger()


def is_passing(error: Exception) -> bool:
    """Whether a token could not be looked up now, which says nothing about it."""
    return is_transient(error) or isinstance(error, BatcherFullError)


class AccessWatch:
    """Ends what was begun under a token that does not allow it any more."""

    def __init__(self, callers: Authenticator, *, scope: Scope) -> None:
        """`scope`: what a caller needs."""
        self._callers = callers
        self._scope = scope
        self._open: dict[str, set[Callable[[], None]]] = defaultdict(set)

    @contextmanager
    def watching(self, token: str, end: Callable[[], None]) -> Iterator[None]:
        """Call `end`, at least once, when the token does not allow this block any more."""
        self._open[token].add(end)
        try:
            yield
        finally:
            self._open[token].discard(end)
            if not self._open[token]:
                del self._open[token]

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            tokens = iter(list(self._open))
            while group := list(islice(tokens, LOOKUP_MAX)):
                await asyncio.gather(*map(self._check, group))

    async def require(self, token: str) -> None:
        """Raise ContractError where a token does not allow it."""
        client = await self._callers.client_of(token)
        client.require(self._scope)

    async def _check(self, token: str) -> None:
        try:
            await self.require(token)
        except ContractError:
            for end in list(self._open.get(token, ())):
                end()
        except Exception as error:
            # Nobody gets an event meanwhile: before each one the same is asked.
            if not is_passing(error):
                raise
            log.debug("events_access_unknown", error=repr(error))
