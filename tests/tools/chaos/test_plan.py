"""A client's acts follow from its seed alone, and they cover what there is to do."""

from itertools import islice
from uuid import UUID

from tools.chaos.command import Command
from tools.chaos.journal import Act, Door
from tools.chaos.load.contents import LEGS_MOST, changed
from tools.chaos.load.plan import BATCH_MOST, Step, client_steps
from tools.chaos.load.wallets import Wallets

WALLETS = Wallets(
    hot=tuple(UUID(int=number) for number in range(1, 9)),
    cold=tuple(UUID(int=number) for number in range(100, 400)),
    frozen=(UUID(int=500), UUID(int=501)),
    holding=tuple(UUID(int=number) for number in range(510, 518)),
    spent=(UUID(int=520), UUID(int=521)),
    travellers=(UUID(int=530), UUID(int=531)),
    fees=UUID(int=540),
    exchange=UUID(int=541),
    exchange_other=UUID(int=542),
)


def steps(count: int, *, seed: int = 1, client: int = 0, rate_per_s: float = 100.0) -> list[Step]:
    acts = client_steps(
        seed=seed, client=client, wallets=WALLETS, rate_per_s=rate_per_s, key_prefix="chaos-1-"
    )
    return list(islice(acts, count))


def test_the_same_seed_gives_the_same_acts() -> None:
    assert steps(500) == steps(500)


def test_another_seed_and_another_client_give_other_acts() -> None:
    assert steps(50) != steps(50, seed=2)
    assert steps(50) != steps(50, client=1)


def test_every_act_is_drawn_over_both_doors() -> None:
    drawn = {(step.act, step.door) for step in steps(4000)}

    not_drawn = {Act.OPENING, Act.PROBE}
    assert {act for act, _ in drawn} == set(Act) - not_drawn
    assert {door for act, door in drawn if act is Act.OTHER_CONTENT} == set(Door)
    assert {door for act, door in drawn if act is Act.POISON} == {Door.AMQP}


def test_acts_come_at_the_rate_that_was_asked_for() -> None:
    last = steps(4000, rate_per_s=200.0)[-1]

    assert 18 < last.at_s < 22


def test_no_new_act_repeats_a_key_and_batches_are_bounded() -> None:
    repeating = {Act.DUPLICATE, Act.OTHER_CONTENT}
    drawn = steps(4000)
    keys = [item.key for step in drawn if step.act not in repeating for item in step.items]

    assert len(keys) == len(set(keys))
    assert {len(step.items) for step in drawn} >= {0, 1, 2, BATCH_MOST}
    assert max(len(step.items) for step in drawn) == BATCH_MOST


def test_a_repetition_names_a_key_that_was_there_before() -> None:
    known: dict[str, Command] = {}
    for step in steps(4000):
        for item in step.items:
            if step.act is Act.DUPLICATE:
                assert known[item.key] == item.command
            elif step.act is Act.OTHER_CONTENT:
                assert changed(known[item.key]) == item.command
            else:
                known[item.key] = item.command


def test_other_content_is_only_sent_under_keys_of_the_http_door() -> None:
    """What AMQP confirms is recorded later: other content might come before the first."""
    doors: dict[str, Door] = {}
    for step in steps(4000):
        for item in step.items:
            if step.act is Act.OTHER_CONTENT:
                assert doors[item.key] is Door.HTTP
            elif step.act is not Act.DUPLICATE:
                doors[item.key] = step.door


def test_what_refers_to_another_transaction_names_a_key_that_was_there_before() -> None:
    kinds: dict[str, str] = {}
    named: set[tuple[str, str]] = set()
    for step in steps(4000):
        for item in step.items:
            kinds[item.key] = item.command.type
            other = item.command.terms.other_key if item.command.terms else None
            if other is not None:
                named.add((item.command.type, kinds[other]))

    assert {kind for kind, _ in named} == {"capture", "release", "reversal"}
    assert {of for kind, of in named if kind in ("capture", "release")} == {"hold"}
    assert {of for kind, of in named if kind == "reversal"} >= {"transfer", "capture", "journal"}


def test_an_atomic_batch_is_repeated_as_a_whole() -> None:
    sizes: dict[str, int] = {}
    repeated = 0
    for step in steps(4000):
        batch = step.items[0].command.batch if step.items else None
        if batch is not None:
            assert {item.command.batch for item in step.items} == {batch}
            assert len(step.items) == sizes.setdefault(batch, len(step.items))
            repeated += step.act is Act.DUPLICATE

    assert repeated > 0


def test_journals_sum_to_zero_in_each_currency() -> None:
    counts: set[int] = set()
    for step in steps(4000):
        for item in step.items:
            legs = item.command.terms.legs if item.command.terms else ()
            sums: dict[str, int] = {}
            for leg in legs:
                sums[leg.currency] = sums.get(leg.currency, 0) + leg.minor
            assert not any(sums.values())
            counts.add(len(legs))

    assert counts - {0} == set(range(2, LEGS_MOST + 1))


def test_an_operator_s_force_is_asked_for_over_http_alone() -> None:
    forced = [
        step.door
        for step in steps(4000)
        if any(item.command.terms and item.command.terms.is_forced for item in step.items)
    ]

    assert set(forced) == {Door.HTTP}
