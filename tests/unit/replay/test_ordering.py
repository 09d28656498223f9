"""The file's order for every wallet that a row names, however long the requests take."""

import random
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from cli.replay.ordering import FileOrder, Item

NO_BOUND = 1 << 30
NAMES = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=2, unique=True)


def item(line: int, *names: str, size: int = 1) -> Item:
    return Item(line, names[0], str(line), b"x" * size, (*names, f"key-{line}"))


def waiting(*items: Item) -> FileOrder:
    order = FileOrder()
    for one in items:
        order.add(one)
    return order


def lines(items: list[Item]) -> list[int]:
    return [one.line for one in items]


def test_a_row_waits_for_the_transfer_that_credits_its_wallet() -> None:
    order = waiting(item(1, "a", "b"), item(2, "b"), item(3, "c"))

    transfer = order.take(1, size=NO_BOUND)
    others = order.take(10, size=NO_BOUND)
    order.release(transfer)

    assert (lines(transfer), lines(others)) == ([1], [3])
    assert lines(order.take(10, size=NO_BOUND)) == [2]


def test_a_row_does_not_overtake_one_that_waits_for_another_wallet() -> None:
    order = waiting(item(1, "a"), item(2, "a", "b"), item(3, "b"))
    order.take(1, size=NO_BOUND)

    assert order.take(10, size=NO_BOUND) == []
    assert len(order) == 2


def test_one_request_takes_rows_of_one_wallet_in_their_order() -> None:
    order = waiting(*(item(line, "a") for line in range(5)))

    assert lines(order.take(3, size=NO_BOUND)) == [0, 1, 2]


def test_rows_of_one_key_keep_their_order_whatever_their_wallets() -> None:
    first, second = (
        Item(line, wallet, "k", b"x", (wallet, "k")) for line, wallet in ((1, "a"), (2, "b"))
    )
    order = waiting(first, second)

    assert order.take(1, size=NO_BOUND) == [first]
    assert order.take(1, size=NO_BOUND) == []


def test_no_row_is_added_to_a_request_that_is_big_enough() -> None:
    order = waiting(*(item(line, f"w{line}", size=40) for line in range(5)))

    assert lines(order.take(10, size=100)) == [0, 1, 2]


@given(
    rows=st.lists(NAMES, max_size=40),
    batch=st.integers(1, 5),
    connections=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_every_wallet_sees_the_file_s_order_in_whatever_order_requests_are_answered(
    rows: list[list[str]], batch: int, connections: int, seed: int
) -> None:
    order, accepted, chance = FileOrder(), list[Item](), random.Random(seed)
    coming = deque(item(line, *names) for line, names in enumerate(rows))
    under_way: list[list[Item]] = []
    while coming or order or under_way:
        if coming and chance.random() < 0.5:
            order.add(coming.popleft())
        while len(under_way) < connections and (request := order.take(batch, size=NO_BOUND)):
            under_way.append(request)
        assert under_way or not order, "something may always be sent"
        if under_way:
            answered = under_way.pop(chance.randrange(len(under_way)))
            accepted += answered
            order.release(answered)

    assert sorted(lines(accepted)) == list(range(len(rows)))
    for name in "abcdef":
        of_wallet = [one.line for one in accepted if name in one.names]
        assert of_wallet == sorted(of_wallet)
