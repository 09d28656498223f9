"""Who is limited as what, how a bucket fills, and how a client is told. Pure.

A bucket holds the requests of one subject in one window of one class. It is a number: the
microsecond at which it is empty again (the generic cell rate algorithm).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final, NamedTuple

from contracts.problems import ContractError, ProblemCode
from contracts.rate_limits import LimitClass, RateLimits, Window
from contracts.requests.transaction import TransactionType
from ingress.authentication import Client

KEY_PREFIX: Final = "ackledger:rate:"
_US: Final = 1_000_000
_NETWORK_BITS: Final = 64
"""Of an IPv6 address, which a provider gives to one customer: the rest they choose freely."""
_OWN_CLASSES: Final[Mapping[str, LimitClass]] = {
    TransactionType.DEPOSIT: LimitClass.DEPOSIT,
    TransactionType.WITHDRAWAL: LimitClass.WITHDRAWAL,
}


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
