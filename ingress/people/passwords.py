"""Hashing of passwords: Argon2id, off the event loop, so many at once and so many waiting."""

import asyncio
import math
import os
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
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

HASH_S: Final = 0.025
"""What a hash takes at least on a core that is shared: how soon it is somebody's turn."""
TURN_MOST_S: Final = 60
_CHANCE: Final = random.SystemRandom()

Result = TypeVar("Result")


class SignInBusyError(ContractError):
    """Too many people sign in at once."""

    def __init__(self, wait_s: int) -> None:
        """`wait_s`: after how many seconds it may be this one's turn."""
        super().__init__(ProblemCode.SIGN_IN_BUSY, "send it again after Retry-After")
        self.headers = {"Retry-After": str(wait_s)}


class Turns:
    """When those who were refused are to come back: not all at once, and not before their turn.

    Told the same second, a thousand of them come back in that second, are refused again, and take
    the event loop from those who submit.
    """

    def __init__(self, *, per_s: float) -> None:
        """`per_s`: how many can be served."""
        self._per_s = per_s
        self._free_at = 0.0

    def after(self, waiting: int, now: float) -> int:
        """Return after how many seconds one more is to come, behind `waiting` and those refused."""
        first = now + waiting / self._per_s
        self._free_at = min(max(self._free_at, first) + 1 / self._per_s, now + TURN_MOST_S)
        # From its turn on, within as long again: whoever was refused long ago may not come back.
        ahead_s = self._free_at - now
        return math.ceil(_CHANCE.uniform(ahead_s, min(2 * ahead_s, TURN_MOST_S)))


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
        self._turns = Turns(per_s=at_once / HASH_S)

    async def hash(self, password: str) -> str:
        """Return what a password is stored as."""
        return await self._run(lambda: self._hasher.hash(normalized_password(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether it is the password; None is stored for nobody, and takes as long."""
        is_right = await self._run(lambda: self._is_right(stored, normalized_password(password)))
        return is_right and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether a password was hashed with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    async def close(self) -> None:
        """Take nothing more; what is in hand ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @cached_property
    def _nobodys(self) -> str:
        """What an address that nobody has is held against: it costs what a wrong password does."""
        return self._hasher.hash(secrets.token_urlsafe())

    def _is_right(self, stored: str | None, password: str) -> bool:
        # Asked for in any case: the first to sign in waits for it, whoever that is, and no start.
        nobodys = self._nobodys
        try:
            return self._hasher.verify(stored or nobodys, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._in_hand >= self._in_hand_max:
            raise SignInBusyError(self._turns.after(self._in_hand, time.monotonic()))
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
