"""Access: who calls, and what their API key or access token lets them do."""

import asyncio
import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg
import structlog

from contracts.problems import ContractError, ProblemCode
from contracts.scopes import Reach, Role, Scope, rights_of_key
from runtime.postgres.pool import UNREACHABLE, Pool
from runtime.postgres.queries import load_queries
from runtime.service.batcher import MicroBatcher
from runtime.service.periodic import one_of, repeat

WRITE_INTERVAL_S: Final = 5.0
NOTED_EVERY_S: Final = 60.0
"""A key's last use is written at most once in this time."""
REMEMBERED_MAX: Final = 10_000

_PASSING: Final[tuple[type[BaseException], ...]] = (asyncpg.PostgresError, *UNREACHABLE)
FRESH_S: Final = 1.0
"""A caller is looked up again after this long: a revocation is felt within it."""
KEY_MAX: Final = 256
ACCESS_TOKEN_MAX: Final = 4096
"""Characters; a token of ours has some 600."""
KEY_PREFIX: Final = "ack_"
LOOKUP_MAX: Final = 200
WAITING_MAX: Final = 10_000
_NEVER: Final[tuple[float, None]] = (0.0, None)
_POINTS: Final = 2

log = structlog.get_logger()


class KeyUse:
    """Takes note of keys in use, by their hashes."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._sql = load_queries("ingress")
        self._noted_at: dict[bytes, float] = {}
        self._waiting: set[bytes] = set()

    def note(self, key_hash: bytes) -> None:
        """Note that a key is used; beyond REMEMBERED_MAX keys some are not noted."""
        now = time.monotonic()
        if now - self._noted_at.get(key_hash, -NOTED_EVERY_S) < NOTED_EVERY_S:
            return
        if len(self._noted_at) >= REMEMBERED_MAX:
            self._noted_at.clear()
        self._noted_at[key_hash] = now
        if len(self._waiting) < REMEMBERED_MAX:
            self._waiting.add(key_hash)

    async def run(self) -> None:
        """Write until cancelled; what cannot be written now waits."""
        await repeat(
            self.run_once,
            every_s=WRITE_INTERVAL_S,
            is_passing=one_of(*_PASSING),
            failed=lambda error: log.info("key_use_not_written", error=repr(error)),
        )

    async def run_once(self) -> None:
        """Write what waits; raises what the database raises."""
        if not self._waiting:
            return
        hashes = list(self._waiting)
        await self._pool.execute(self._sql["note_key_use"], hashes, NOTED_EVERY_S)
        self._waiting.difference_update(hashes)


@dataclass(frozen=True, slots=True)
class Client:
    """The caller, a system or a person: the submitter of what it submits, and its rights."""

    name: str
    scopes: frozenset[str]
    reach: Reach = Reach.ALL
    role: Role | None = None
    """A person's."""
    user_id: UUID | None = None
    """A person's; wallets with this `owner_id` are theirs."""
    session_id: UUID | None = None
    """The login that a person's access token comes from."""

    def require(self, scope: Scope) -> None:
        """Raise ContractError unless the caller has the scope."""
        if scope not in self.scopes:
            raise ContractError(
                ProblemCode.INSUFFICIENT_SCOPE, f"this call needs the scope {scope}"
            )

    def require_one_of(self, rights: Sequence[frozenset[Scope]]) -> None:
        """Raise ContractError unless the caller has all scopes of one of these sets."""
        if not any(one <= self.scopes for one in rights):
            wanted = " or ".join(" and ".join(sorted(one)) for one in rights)
            raise ContractError(
                ProblemCode.INSUFFICIENT_SCOPE, f"this call needs the scope {wanted}"
            )


def token_of(authorization: str) -> str | None:
    """Return the token of `Authorization: Bearer …`, None without one."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def identified(found: Sequence[Client | None]) -> Client:
    """Return the caller that one look-up found; raises ContractError where it found nobody."""
    [client] = found
    if client is None:
        raise ContractError(
            ProblemCode.UNAUTHENTICATED,
            "send a valid API key or access token as 'Authorization: Bearer …'",
        )
    return client


class Lookups(ABC):
    """Looks up whose a bearer token is, and remembers each answer for a moment."""

    token_max = ACCESS_TOKEN_MAX
    """Characters; longer ones are nobody's."""

    def __init__(self) -> None:
        self._remembered: dict[str, tuple[float, Client | None]] = {}
        self._lookups: MicroBatcher[str, Client | None] = MicroBatcher(
            self._look_up_group, group_max=LOOKUP_MAX, waiting_max=WAITING_MAX, workers=1
        )
        self._under_way: dict[str, asyncio.Future[Sequence[Client | None]]] = {}

    async def run(self) -> None:
        """Look up until cancelled."""
        await self._lookups.run()

    def known(self, token: str | None) -> Client | None:
        """Return the caller behind a token that was looked up a moment ago, None for any other."""
        until, client = self._remembered.get(token or "", _NEVER)
        return client if until > time.monotonic() else None

    def look_up(self, token: str | None) -> "asyncio.Future[Sequence[Client | None]]":
        """Return what will hold the caller; what is known is not asked again.

        However many requests of this instant carry the token, the database is asked once: the
        future is shared, so await it shielded. Raises BatcherFullError.
        """
        is_known, client = self._fresh(token)
        if is_known or token is None:
            return self._lookups.answered([client])
        future = self._under_way.get(token)
        if future is None:
            future = self._ask(token)
            self._under_way[token] = future
            future.add_done_callback(lambda _: self._under_way.pop(token, None))
        return future

    @abstractmethod
    async def _look_up(self, tokens: list[str]) -> Sequence[Client | None]:
        """Return the caller behind each of these tokens; None where it is nobody's."""

    def _ask(self, token: str) -> "asyncio.Future[Sequence[Client | None]]":
        return self._lookups.submit([token])

    def _fresh_s(self, token: str, client: Client | None) -> float:  # noqa: ARG002
        """How long an answer is good."""
        return FRESH_S

    def _remember(self, token: str, client: Client | None) -> None:
        if len(self._remembered) > REMEMBERED_MAX:
            self._remembered.clear()
        self._remembered[token] = (time.monotonic() + self._fresh_s(token, client), client)

    async def _look_up_group(self, tokens: list[str]) -> Sequence[Client | None]:
        clients = await self._look_up(tokens)
        for token, client in zip(tokens, clients, strict=True):
            self._remember(token, client)
        return clients

    def _fresh(self, token: str | None) -> tuple[bool, Client | None]:
        """Whether an answer for the token is known, and which."""
        if token is None or len(token) > self.token_max or not token.isascii():
            return True, None
        until, client = self._remembered.get(token, _NEVER)
        is_known = until > time.monotonic()
        return is_known, client if is_known else None


class ApiKeys(Lookups):
    """Looks up API keys by their hash."""

    token_max = KEY_MAX

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self._pool = pool
        self._use = KeyUse(pool)
        self._sql = load_queries("ingress")

    async def run(self) -> None:
        """Look up, and note which keys are used, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(super().run())
            group.create_task(self._use.run())

    async def _look_up(self, tokens: list[str]) -> Sequence[Client | None]:
        hashes = [hashlib.sha256(token.encode()).digest() for token in tokens]
        rows: Sequence[asyncpg.Record] = await self._pool.fetch(self._sql["read_api_keys"], hashes)
        found = {
            row["key_hash"]: Client(row["client"], *rights_of_key(row["scopes"], row["reach"]))
            for row in rows
        }
        for key_hash in found:
            self._use.note(key_hash)
        return [found.get(key_hash) for key_hash in hashes]


class NoTokens(Lookups):
    """Where nobody issues access tokens: each is nobody's."""

    async def _look_up(self, tokens: list[str]) -> Sequence[Client | None]:
        return [None for _ in tokens]


class Authenticator:
    """Finds out who calls: a system by its API key, a person by an access token."""

    def __init__(self, *, keys: Lookups, tokens: Lookups) -> None:
        self._keys = keys
        self._tokens = tokens

    async def run(self) -> None:
        """Look up until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keys.run())
            group.create_task(self._tokens.run())

    async def client_of(self, token: str | None) -> Client:
        """Return the caller behind a bearer token; raises ContractError for none or a bad one."""
        return self.known(token) or identified(await asyncio.shield(self.look_up(token)))

    def known(self, token: str | None) -> Client | None:
        """Return the caller behind a token that was looked up a moment ago, None for any other."""
        return self._lookups_of(token).known(token)

    def look_up(self, token: str | None) -> "asyncio.Future[Sequence[Client | None]]":
        """Return what will hold the caller, as `Lookups.look_up` does."""
        return self._lookups_of(token).look_up(token)

    def _lookups_of(self, token: str | None) -> Lookups:
        """By its look: a JSON Web Token has three parts with points between them."""
        if token is None or token.startswith(KEY_PREFIX) or token.count(".") != _POINTS:
            return self._keys
        return self._tokens
