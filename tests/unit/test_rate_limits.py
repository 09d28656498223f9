"""Rate limits: what an operator writes, whom it limits, how buckets fill, what clients are told."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.rate_limits import (
    LimitClass,
    RateLimits,
    Window,
    parse_client_classes,
    parse_rate_limits,
)
from ingress.authentication import Client
from ingress.limits.limiter import (
    Allowance,
    Charge,
    Level,
    LimitRules,
    LocalBuckets,
    charge_bucket,
    class_of_type,
    network_of,
    policy_of,
)

_NOBODY = frozenset[str]()
SYSTEM = Client("shop", _NOBODY)
PERSON = Client("ada", _NOBODY, user_id=UUID(int=7))
_US = 1_000_000


def _charge(quota: int, seconds: float, *, cost: int = 1, key: str = "k") -> Charge:
    return Charge(key, policy_of(LimitClass.AUTHENTICATED, Window(quota, seconds)), cost)


def test_what_is_not_named_keeps_its_default_and_none_lifts_a_limit() -> None:
    limits = parse_rate_limits("login=3/2m,9/1d deposit=none system=5/s")

    assert limits.of(LimitClass.LOGIN) == (Window(3, 120), Window(9, 86_400))
    assert limits.of(LimitClass.SYSTEM) == (Window(5, 1),)
    assert limits.of(LimitClass.DEPOSIT) == ()
    assert limits.of(LimitClass.ANONYMOUS) == parse_rate_limits("").of(LimitClass.ANONYMOUS)


def test_the_defaults_are_those_that_are_promised_and_limit_no_system() -> None:
    limits = parse_rate_limits("")

    assert limits.of(LimitClass.ANONYMOUS)[0] == Window(10, 60)
    assert limits.of(LimitClass.AUTHENTICATED)[0] == Window(100, 60)
    assert limits.of(LimitClass.PREMIUM)[0] == Window(1000, 60)
    assert limits.of(LimitClass.SYSTEM) == ()
    assert not LimitRules(limits, {}).is_limited(SYSTEM)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fast=1/s", "'fast' is none of"),
        ("login", "expected requests/window"),
        ("login=1", "expected requests/window"),
        ("login=1/1w", "expected requests/window"),
        ("login=0/1m", "1 to"),
        ("login=1/0s", "1 to"),
        ("login=1/32d", "1 to"),
        ("login=1/1m,2/60s", "two windows of one length"),
        ("login=1/1s,2/2s,3/3s,4/4s", "at most 3"),
        ("login=1/1m login=2/1m", "login stands twice"),
        ("login=\u0661/1m", "expected requests/window"),
    ],
)
def test_a_wrong_limit_is_refused_with_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_rate_limits(text)


@pytest.mark.parametrize("text", ["shop", "=premium", "shop=login", "shop=premium shop=system"])
def test_a_wrong_class_of_a_client_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected name=class|is none of|stands twice"):
        parse_client_classes(text)


def test_the_two_older_settings_are_a_limit_for_systems() -> None:
    limits = parse_rate_limits("").with_system(per_s=5, burst=10)

    assert limits.of(LimitClass.SYSTEM) == (Window(10, 2.0),)
    assert Window(10, 2.0).interval_us == 200_000
    with pytest.raises(ValueError, match="RATE_LIMIT_PER_S already"):
        parse_rate_limits("system=1/s").with_system(per_s=5, burst=10)


def test_a_person_is_counted_by_every_window_of_their_class_and_of_the_transaction_s() -> None:
    rules = LimitRules(parse_rate_limits("authenticated=5/1m,9/1h deposit=3/1m"), {})
    charges = rules.of_client(PERSON, {LimitClass.DEPOSIT: 2})

    assert [(one.policy.name, one.cost) for one in charges] == [
        ("authenticated-1m", 1),
        ("authenticated-1h", 1),
        ("deposit-1m", 2),
    ]
    assert len({one.key for one in charges}) == len(charges)
    assert all(str(PERSON.user_id) in one.key for one in charges)


def test_a_system_s_transactions_are_not_counted_by_type() -> None:
    rules = LimitRules(parse_rate_limits("system=5/1m"), {})

    assert [one.policy.name for one in rules.of_client(SYSTEM, {LimitClass.DEPOSIT: 2})] == [
        "system-1m"
    ]


def test_whoever_is_named_premium_is_limited_so() -> None:
    rules = LimitRules(
        parse_rate_limits(""), {"shop": LimitClass.PREMIUM, str(PERSON.user_id): LimitClass.PREMIUM}
    )

    assert rules.is_limited(SYSTEM)
    assert [one.policy.name for one in rules.of_client(SYSTEM, {})] == ["premium-1m"]
    assert [one.policy.name for one in rules.of_client(PERSON, {})] == ["premium-1m"]


def test_a_system_and_a_person_of_one_name_have_buckets_of_their_own() -> None:
    rules = LimitRules(parse_rate_limits("system=5/1m authenticated=5/1m"), {})
    system = Client(str(PERSON.user_id), _NOBODY)

    assert rules.of_client(system, {})[0].key != rules.of_client(PERSON, {})[0].key


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("deposit", LimitClass.DEPOSIT),
        ("withdrawal", LimitClass.WITHDRAWAL),
        ("transfer", LimitClass.TRANSFER),
        ("journal", LimitClass.TRANSFER),
        ("hold", LimitClass.TRANSFER),
        ("nothing", LimitClass.TRANSFER),
        (None, LimitClass.TRANSFER),
        ({"deposit": 1}, LimitClass.TRANSFER),
    ],
)
def test_every_type_of_transaction_has_a_class(kind: object, expected: LimitClass) -> None:
    assert class_of_type(kind) is expected


def test_a_login_counts_for_two_classes_of_its_address() -> None:
    rules = LimitRules(parse_rate_limits("anonymous=5/1m login=2/1m"), {})

    assert [one.policy.name for one in rules.of_address("192.0.2.1", is_login=True)] == [
        "anonymous-1m",
        "login-1m",
    ]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_an_address_of_version_six_counts_as_its_customer_s_network(
    address: str, network: str
) -> None:
    assert network_of(address) == network


def test_a_quota_is_there_at_once_and_then_comes_back_evenly() -> None:
    empty_at = 0
    for left in (2, 1, 0):
        empty_at, level = charge_bucket(_charge(3, 3), empty_at_us=empty_at, now_us=10 * _US)
        assert (level.remaining, level.wait_us) == (left, 0)
    same, refused = charge_bucket(_charge(3, 3), empty_at_us=empty_at, now_us=10 * _US)
    _, later = charge_bucket(_charge(3, 3), empty_at_us=empty_at, now_us=11 * _US)

    assert same == empty_at
    assert (refused.remaining, refused.wait_us, refused.full_us) == (0, _US, 3 * _US)
    assert (later.remaining, later.wait_us) == (0, 0)


def test_more_than_the_quota_is_never_allowed_and_takes_nothing() -> None:
    empty_at, level = charge_bucket(_charge(3, 3, cost=4), empty_at_us=0, now_us=10 * _US)

    assert (empty_at, level) == (10 * _US, Level(3, _US, 0))


@given(
    quota=st.integers(1, 20),
    seconds=st.integers(1, 20),
    gaps_ms=st.lists(st.integers(0, 4000), min_size=1, max_size=60),
)
def test_no_stretch_of_time_sees_more_than_the_quota_and_what_came_back_in_it(
    quota: int, seconds: int, gaps_ms: list[int]
) -> None:
    charge, now, empty_at, taken = _charge(quota, seconds), 10 * _US, 0, []
    for gap in gaps_ms:
        now += gap * 1000
        empty_at, level = charge_bucket(charge, empty_at_us=empty_at, now_us=now)
        if not level.wait_us:
            taken.append(now)
    for start in range(len(taken)):
        for end in range(start, len(taken)):
            came_back = (taken[end] - taken[start]) // charge.policy.interval_us
            assert end - start + 1 <= quota + came_back


def test_a_request_that_one_window_refuses_is_counted_in_none() -> None:
    buckets = LocalBuckets()
    short, long = _charge(1, 1, key="short"), _charge(10, 3600, key="long")
    first = buckets.count([short, long], now_us=_US)
    refused = buckets.count([short, long], now_us=_US)

    assert (first.is_allowed, first.levels[1].remaining) == (True, 9)
    assert (refused.is_allowed, refused.levels[1].remaining) == (False, 9)


def test_the_buckets_of_a_process_have_a_bound_and_the_least_used_goes_first() -> None:
    buckets = LocalBuckets(buckets_max=3)
    for key in ("a", "b", "c", "a", "d"):
        buckets.count([_charge(10, 60, key=key)], now_us=_US)
    kept = buckets.count([_charge(10, 60, key="a")], now_us=_US).levels[0].remaining
    gone = buckets.count([_charge(10, 60, key="b")], now_us=_US).levels[0].remaining

    assert len(buckets) == 3
    assert (kept, gone) == (7, 9)


def test_a_client_is_told_of_every_window_and_by_the_older_headers_of_the_tightest() -> None:
    charges = [_charge(100, 60), _charge(2000, 3600)]
    allowed = Allowance(
        is_allowed=True, charges=charges, levels=[Level(7, 0, 55_800_001), Level(5, 0, 3_591_000)]
    )
    refused = Allowance(
        is_allowed=False,
        charges=charges,
        levels=[Level(0, 400_000, 60_000_000), Level(5, 0, 3_591_000)],
    )

    assert allowed.headers() == {
        "RateLimit": '"authenticated-1m";r=7;t=56, "authenticated-1h";r=5;t=4',
        "RateLimit-Policy": '"authenticated-1m";q=100;w=60, "authenticated-1h";q=2000;w=3600',
        "RateLimit-Limit": "2000",
        "RateLimit-Remaining": "5",
        "RateLimit-Reset": "0",
    }
    assert refused.headers()["RateLimit"].startswith('"authenticated-1m";r=0;t=1, ')
    assert refused.headers()["RateLimit-Limit"] == "100"
    assert refused.headers()["Retry-After"] == "1"


def test_a_class_without_windows_is_not_counted() -> None:
    rules = LimitRules(RateLimits({}), {})

    assert rules.of_client(PERSON, {LimitClass.DEPOSIT: 1}) == []
