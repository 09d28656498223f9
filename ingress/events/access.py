"""Whether those who follow events may still have them: asked every second, once for each token.

Whoever reaches less than when it began may not go on: it is served by what it could see then.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

import structlog

from contracts.problems import ContractError, ProblemCode
from contracts.scopes import Reach, Scope
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
        self._open: dict[tuple[str, Reach], set[Callable[[], None]]] = defaultdict(set)

    @contextmanager
    def watching(self, token: str, reach: Reach, end: Callable[[], None]) -> Iterator[None]:
        """Call `end`, at least once, when the token does not allow this block any more."""
        begun = (token, reach)
        self._open[begun].add(end)
        try:
            yield
        finally:
            self._open[begun].discard(end)
            if not self._open[begun]:
                del self._open[begun]

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            begun = iter(list(self._open))
            while group := list(islice(begun, LOOKUP_MAX)):
                await asyncio.gather(*(self._check(*one) for one in group))

    async def require(self, token: str, reach: Reach) -> None:
        """Raise ContractError where a token does not allow what was begun with this reach."""
        client = await self._callers.client_of(token)
        client.require(self._scope)
        if reach is Reach.ALL and client.reach is not Reach.ALL:
            raise ContractError(
                ProblemCode.INSUFFICIENT_SCOPE, "you do not reach everybody's events any more"
            )

    async def _check(self, token: str, reach: Reach) -> None:
        try:
            await self.require(token, reach)
        except ContractError:
            for end in list(self._open.get((token, reach), ())):
                end()
        except Exception as error:
            # Nobody gets an event meanwhile: before each one the same is asked.
            if not is_passing(error):
                raise
            log.debug("events_access_unknown", error=repr(error))
