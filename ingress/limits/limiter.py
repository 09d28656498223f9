"""Limits of requests: who is limited as what, how a bucket fills, and counting in Redis.

A bucket holds the requests of one subject in one window of one class. It is a number: the
microsecond at which it is empty again (the generic cell rate algorithm).

The requests of one instant are counted in one round trip, for all processes together. Redis may
vanish at any moment: then each process counts for itself, in a table with a bound, and a metric
says so; only logins are refused, since whoever guesses passwords would have every process's limit
anew.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, NamedTuple, TypeAlias

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from contracts.problems import ContractError, ProblemCode
from contracts.rate_limits import LimitClass, RateLimits, Window
from contracts.requests.transaction import TransactionType
from ingress.authentication import Client
from ingress.metrics import COUNTED_LOCALLY, RATE_LIMITED, REDIS_FAILURES
from runtime.service.batcher import MicroBatcher
from runtime.service.status_server import Check, DependencyState

KEY_PREFIX: Final = "ackledger:rate:"
_US: Final = 1_000_000
_NETWORK_BITS: Final = 64
"""Of an IPv6 address, which a provider gives to one customer: the rest they choose freely."""
_OWN_CLASSES: Final[Mapping[str, LimitClass]] = {
    TransactionType.DEPOSIT: LimitClass.DEPOSIT,
    TransactionType.WITHDRAWAL: LimitClass.WITHDRAWAL,
}
ANSWER_TIMEOUT_S: Final = 0.1
"""A limiter must cost less than what it protects."""
SIGN_IN_TIMEOUT_S: Final = 1.0
"""Those who sign in wait for a password's hash anyway, and are refused where nobody counts."""
REST_S: Final = 1.0
"""After a failure Redis is left alone this long, so that requests do not wait for it in turn."""
GROUP_MAX: Final = 200
"""Requests that one round trip counts: Redis takes some ten microseconds for each."""
WAITING_MAX: Final = 10_000
BUCKETS_MAX: Final = 20_000
"""Kept by a process while Redis is away, some megabytes; beyond it the one used least lately goes.
Whoever has so many addresses loses no limit that they would have kept."""
FAILURES: Final = (RedisError, OSError, TimeoutError)

log = structlog.get_logger()

ScriptCall: TypeAlias = tuple[Sequence[str], Sequence[int | str]]
"""Keys and arguments."""
NO_COSTS: Final[Mapping[LimitClass, int]] = {}


class Policy(NamedTuple):
    """A window of a class, as each request needs it."""

    name: str
    """What a client knows it by."""
    kind: LimitClass
    quota: int
    interval_us: int
    described: str
    """As it stands in RateLimit-Policy."""


def policy_of(kind: LimitClass, window: Window) -> Policy:
    """Return the policy that a window of a class is."""
    name = f"{kind}-{window.label}"
    described = f'"{name}";q={window.quota};w={math.ceil(window.seconds)}'
    return Policy(name, kind, window.quota, window.interval_us, described)


class Charge(NamedTuple):
    """What a request takes from one bucket."""

    key: str
    policy: Policy
    cost: int


class Level(NamedTuple):
    """How a bucket stands after a request that was counted, or would stand without it."""

    remaining: int
    wait_us: int
    """Until as much as was asked for is allowed; 0 where it is."""
    full_us: int
    """Until the whole quota is there again."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is said of one request: whether it may go on, and how each of its buckets stands."""

    is_allowed: bool
    charges: Sequence[Charge]
    levels: Sequence[Level]

    def headers(self) -> Mapping[str, str]:
        """Return the headers that tell a client where it stands.

        The newest draft's `RateLimit` and `RateLimit-Policy` name every window; the three of older
        drafts tell of the one with the least left.
        """
        each = list(zip(self.charges, self.levels, strict=True))
        tightest, level = min(each, key=lambda one: (-one[1].wait_us, one[1].remaining))
        wait_s = _seconds(level.wait_us)
        headers = {
            "RateLimit": ", ".join(
                [
                    f'"{policy.name}";r={one.remaining};t={_seconds(one.wait_us or one.full_us)}'
                    for (_, policy, _), one in each
                ]
            ),
            "RateLimit-Policy": ", ".join([policy.described for _, policy, _ in self.charges]),
            "RateLimit-Limit": str(tightest.policy.quota),
            "RateLimit-Remaining": str(level.remaining),
            "RateLimit-Reset": str(wait_s),
        }
        return headers if self.is_allowed else {**headers, "Retry-After": str(wait_s)}


class RateLimitedError(ContractError):
    """The client asks more often than it may."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(ProblemCode.RATE_LIMITED, "ask again after Retry-After")
        self.headers = headers


def charge_bucket(charge: Charge, *, empty_at_us: int, now_us: int) -> tuple[int, Level]:
    """Return when a bucket is empty after a request that takes from it, and how it stands then.

    With a wait it has not taken anything. The same as `rate_limit.lua` does for one window.
    """
    interval_us, quota = charge.policy.interval_us, charge.policy.quota
    empty_at_us = max(empty_at_us, now_us)
    wait_us = max(empty_at_us + interval_us * charge.cost - now_us - interval_us * quota, 0)
    if not wait_us:
        empty_at_us += interval_us * charge.cost
    return empty_at_us, level_of(charge, empty_at_us=empty_at_us, now_us=now_us, wait_us=wait_us)


def level_of(charge: Charge, *, empty_at_us: int, now_us: int, wait_us: int) -> Level:
    """Return how a bucket stands that is empty at a moment."""
    interval_us, quota = charge.policy.interval_us, charge.policy.quota
    full_us = max(empty_at_us - now_us, 0)
    return Level((interval_us * quota - full_us) // interval_us, wait_us, full_us)


def class_of_type(kind: object) -> LimitClass:
    """Return the class of a person's transaction, by what its body says of its type."""
    if not isinstance(kind, str):
        return LimitClass.TRANSFER
    return _OWN_CLASSES.get(kind, LimitClass.TRANSFER)


class LimitRules:
    """Says from which buckets a request takes."""

    def __init__(self, limits: RateLimits, classes: Mapping[str, LimitClass]) -> None:
        """`classes`: those of clients by name and of people by id that are not the usual ones."""
        self._policies = {
            kind: [policy_of(kind, window) for window in limits.of(kind)] for kind in LimitClass
        }
        self._classes = classes

    def is_limited(self, client: Client) -> bool:
        """Whether any limit holds for a client: systems usually have none."""
        return client.user_id is not None or bool(self._policies[self._class_of(client)])

    def of_client(
        self, client: Client, costs: Mapping[LimitClass, int], *, requests: int = 1
    ) -> Sequence[Charge]:
        """Return what one request of a client takes; `costs`: its transactions by class.

        Those, and as how many requests it counts, are for people alone: systems move other
        people's money.
        """
        if client.user_id is None:
            return self._charges(f"s:{client.name}", {self._class_of(client): 1})
        return self._charges(f"u:{client.user_id}", {self._class_of(client): requests, **costs})

    def of_address(self, address: str, *, is_login: bool) -> Sequence[Charge]:
        """Return what a call without a token takes from the buckets of its address."""
        login = {LimitClass.LOGIN: 1} if is_login else {}
        return self._charges(f"a:{network_of(address)}", {LimitClass.ANONYMOUS: 1, **login})

    def _class_of(self, client: Client) -> LimitClass:
        if client.user_id is None:
            return self._classes.get(client.name, LimitClass.SYSTEM)
        return self._classes.get(str(client.user_id), LimitClass.AUTHENTICATED)

    def _charges(self, subject: str, costs: Mapping[LimitClass, int]) -> Sequence[Charge]:
        return [
            Charge(f"{KEY_PREFIX}{subject}:{policy.name}", policy, cost)
            for kind, cost in costs.items()
            for policy in self._policies[kind]
        ]


def network_of(address: str) -> str:
    """Return whose an address is: itself, or its network's where one customer has many."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    network = int(found) >> (128 - _NETWORK_BITS) << (128 - _NETWORK_BITS)
    return f"{IPv6Address(network)}/{_NETWORK_BITS}"


def _seconds(microseconds: int) -> int:
    return math.ceil(microseconds / _US)


class RedisScript:
    """A Lua script that Redis is asked to run, many times in one round trip."""

    def __init__(self, redis: "Redis", name: str) -> None:
        """`name` is the file's, in this package."""
        self._redis = redis
        self._text = resources.files("ingress.limits").joinpath(name).read_text()
        self._digest: str | None = None
        self._resting_until = 0.0

    async def run(self, calls: Sequence[ScriptCall]) -> Sequence[Any] | None:
        """Return the answer to each call, of keys and arguments; None where Redis gives none."""
        if time.monotonic() < self._resting_until:
            return None
        try:
            return await self._run(calls)
        except FAILURES as error:
            self._resting_until = time.monotonic() + REST_S
            REDIS_FAILURES.inc()
            log.warning("rate_limit_unavailable", error=repr(error))
            return None

    async def _run(self, calls: Sequence[ScriptCall]) -> Sequence[Any]:
        if self._digest is None:
            self._digest = await self._redis.script_load(self._text)
        try:
            return await self._ask(self._digest, calls)
        except NoScriptError:
            # A restarted Redis knows none, so nothing was counted: not one of these calls.
            self._digest = await self._redis.script_load(self._text)
            return await self._ask(self._digest, calls)

    async def _ask(self, digest: str, calls: Sequence[ScriptCall]) -> Sequence[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for keys, arguments in calls:
            pipeline.evalsha(digest, len(keys), *keys, *arguments)
        answers: Sequence[Any] = await pipeline.execute()
        return answers


class LocalBuckets:
    """Buckets of this process alone, with the same rules."""

    def __init__(self, *, buckets_max: int = BUCKETS_MAX) -> None:
        self._buckets_max = buckets_max
        self._empty_at_us: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._empty_at_us)

    def count(self, charges: Sequence[Charge], *, now_us: int) -> Allowance:
        """Count a request in all of its buckets, or in none."""
        empty_at_us = [self._empty_at_us.get(charge.key, 0) for charge in charges]
        found = [
            charge_bucket(charge, empty_at_us=empty, now_us=now_us)
            for charge, empty in zip(charges, empty_at_us, strict=True)
        ]
        if any(level.wait_us for _, level in found):
            levels = [
                level_of(charge, empty_at_us=empty, now_us=now_us, wait_us=level.wait_us)
                for charge, empty, (_, level) in zip(charges, empty_at_us, found, strict=True)
            ]
            return Allowance(is_allowed=False, charges=charges, levels=levels)
        for charge, (empty, _) in zip(charges, found, strict=True):
            self._keep(charge.key, empty)
        return Allowance(is_allowed=True, charges=charges, levels=[level for _, level in found])

    def _keep(self, key: str, empty_at_us: int) -> None:
        self._empty_at_us[key] = empty_at_us
        self._empty_at_us.move_to_end(key)
        if len(self._empty_at_us) > self._buckets_max:
            self._empty_at_us.popitem(last=False)


class RateLimiter:
    """Counts requests against the limits of whoever makes them."""

    def __init__(self, redis: "Redis", rules: LimitRules) -> None:
        self._rules = rules
        self._script = RedisScript(redis, "rate_limit.lua")
        self._local = LocalBuckets()
        self._counting: MicroBatcher[Sequence[Charge], Allowance | ContractError] = MicroBatcher(
            self._count, group_max=GROUP_MAX, waiting_max=WAITING_MAX, workers=1
        )
        self.is_limited = rules.is_limited

    async def run(self) -> None:
        """Count until cancelled."""
        await self._counting.run()

    def count_soon(
        self, client: Client, costs: Mapping[LimitClass, int] = NO_COSTS, *, requests: int = 1
    ) -> "asyncio.Future[Sequence[Allowance | ContractError]] | None":
        """Return what will hold a client's allowance; None where no limit holds for the request.

        `costs`: how many transactions of each class it asks for; `requests`: as how many requests
        of a person's it counts. Raises BatcherFullError.
        """
        charges = self._rules.of_client(client, costs, requests=requests)
        return self._counting.submit([charges]) if charges else None

    async def count(
        self, client: Client, costs: Mapping[LimitClass, int] = NO_COSTS, *, requests: int = 1
    ) -> Mapping[str, str]:
        """Count a client's request and return the headers that say so; raises ContractError."""
        if not self.is_limited(client):
            return {}
        counted = self.count_soon(client, costs, requests=requests)
        return {} if counted is None else admitted(await counted)

    async def count_address(self, address: str, *, is_login: bool) -> Mapping[str, str]:
        """Count a call without a token, and return the headers that say so; raises ContractError.

        Closed for logins without Redis: LIMITS_UNAVAILABLE.
        """
        charges = self._rules.of_address(address, is_login=is_login)
        return admitted(await self._counting.submit([charges])) if charges else {}

    async def _count(self, requests: list[Sequence[Charge]]) -> Sequence[Allowance | ContractError]:
        answers = await self._script.run([_script_call(requests)])
        if answers is not None:
            return list(_allowances(requests, answers[0]))
        now_us = time.monotonic_ns() // 1000
        return [self._count_locally(charges, now_us) for charges in requests]

    def _count_locally(self, charges: Sequence[Charge], now_us: int) -> Allowance | ContractError:
        if any(charge.policy.kind is LimitClass.LOGIN for charge in charges):
            return limits_unavailable()
        COUNTED_LOCALLY.inc()
        return self._local.count(charges, now_us=now_us)


def admitted(counted: Sequence[Allowance | ContractError]) -> Mapping[str, str]:
    """Return the headers of the one request that was counted; raises ContractError if refused."""
    [allowance] = counted
    if isinstance(allowance, ContractError):
        raise allowance
    headers = allowance.headers()
    if not allowance.is_allowed:
        RATE_LIMITED.inc()
        raise RateLimitedError(headers)
    return headers


def limits_unavailable() -> ContractError:
    """Return what is wrong with a login that cannot be counted."""
    return ContractError(ProblemCode.LIMITS_UNAVAILABLE, "log in again after Retry-After")


def connect_redis(url: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> "Redis":
    """Return a client that connects when it is first used and waits so long for each answer."""
    return Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)


def check_redis(redis: "Redis") -> Check:
    """Return a readiness check; without Redis the service runs on, and counts by itself."""

    async def check() -> DependencyState:
        try:
            await redis.ping()
        except FAILURES as error:
            return DependencyState(is_up=False, detail=type(error).__name__)
        return DependencyState(is_up=True)

    return check


def _script_call(requests: Sequence[Sequence[Charge]]) -> ScriptCall:
    keys: list[str] = []
    words: list[int] = []
    for charges in requests:
        words.append(len(charges))
        for key, policy, cost in charges:
            keys.append(key)
            words += (policy.interval_us, policy.quota, cost)
    return keys, [" ".join(map(str, words))]


def _allowances(requests: Sequence[Sequence[Charge]], answer: bytes) -> Iterator[Allowance]:
    """Yield each request's allowance from the words of the script's one answer."""
    numbers = [int(word) for word in answer.split()]
    place = 0
    for charges in requests:
        following = place + 1 + 3 * len(charges)
        levels = [Level(*numbers[n : n + 3]) for n in range(place + 1, following, 3)]
        yield Allowance(is_allowed=bool(numbers[place]), charges=charges, levels=levels)
        place = following
