"""Hashing of passwords: Argon2id, off the event loop, so many at once and so many waiting."""

import asyncio
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import argon2
from argon2.exceptions import InvalidHashError, VerificationError

from contracts.people import normalized_password
from contracts.problems import ContractError, ProblemCode

TIME_COST: Final = 2
MEMORY_KIB: Final = 19 * 1024
PARALLELISM: Final = 1
"""What OWASP's Password Storage Cheat Sheet asks for at least; some 20 ms of one core."""
_NICENESS: Final = 10
"""Hashing is patient: a core that submissions need is theirs."""

Result = TypeVar("Result")


class Passwords:
    """Hashes and verifies. Raises ContractError (SIGN_IN_BUSY) where too many wait already."""

    def __init__(self, *, at_once: int, waiting_max: int) -> None:
        """`at_once` take a core and 19 MiB each; `waiting_max` more may wait for their turn."""
        self._hasher = argon2.PasswordHasher(
            time_cost=TIME_COST, memory_cost=MEMORY_KIB, parallelism=PARALLELISM
        )
        self._threads = ThreadPoolExecutor(
            at_once, thread_name_prefix="passwords", initializer=_be_nice
        )
        self._in_hand = 0
        self._in_hand_max = at_once + waiting_max
        # An address that nobody has costs what one costs whose password is wrong.
        self._nobodys = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """Return what a password is stored as."""
        return await self._run(lambda: self._hasher.hash(normalized_password(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether it is the password; None is stored for nobody, and takes as long."""
        known = stored or self._nobodys
        is_right = await self._run(lambda: self._is_right(known, normalized_password(password)))
        return is_right and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether a password was hashed with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    async def close(self) -> None:
        """Take nothing more; what is in hand ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _is_right(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._in_hand >= self._in_hand_max:
            raise ContractError(ProblemCode.SIGN_IN_BUSY, "send it again after Retry-After")
        self._in_hand += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(self._leave)
        # Whoever hangs up does not make room before the thread is free.
        return await asyncio.shield(future)

    def _leave(self, _: object) -> None:
        self._in_hand -= 1


def _be_nice() -> None:
    if sys.platform == "linux":
        # Only there the priority is a thread's own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
