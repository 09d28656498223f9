"""No delivery is acked that is not settled, in whatever order batches are answered, fail and drop.

The pipeline's own state machine (`Progress`) and its own choice of acks (`Unsettled`) are driven
through every interleaving against a model of the broker, which believes each ack.
"""

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processor.pipeline import BatchState, Progress, WrongTurnError
from runtime.amqp.consumer import Ack, UnknownTagError, Unsettled


@dataclass
class _Broker:
    """A queue with one consumer: what is unacked when its channel ends comes again, in order."""

    ready: deque[int] = field(default_factory=deque)
    unacked: dict[int, int] = field(default_factory=dict)
    acked: set[int] = field(default_factory=set)
    last_tag: int = 0

    def deliver(self) -> int:
        self.last_tag += 1
        self.unacked[self.last_tag] = self.ready.popleft()
        return self.last_tag

    def take_ack(self, ack: Ack) -> None:
        assert ack.tag in self.unacked, "an ack of a tag that is not unacked closes the channel"
        tags = [tag for tag in self.unacked if tag <= ack.tag] if ack.is_multiple else [ack.tag]
        for tag in tags:
            self.acked.add(self.unacked.pop(tag))

    def end_channel(self) -> None:
        self.ready.extendleft(reversed(list(self.unacked.values())))
        self.unacked.clear()
        self.last_tag = 0


@dataclass
class _Batch:
    tags: list[int]
    progress: Progress = field(default_factory=Progress)


class _Pipeline(RuleBasedStateMachine):
    """Up to three batches in hand, as the partition has them at most, of one to eight messages."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = _Broker()
        self.unsettled = Unsettled()
        self.waiting: deque[int] = deque()
        self.batches: list[_Batch] = []
        self.message_of: dict[int, int] = {}
        self.done: set[int] = set()
        self.published = 0

    @rule(count=st.integers(1, 8))
    def publish(self, count: int) -> None:
        self.broker.ready.extend(range(self.published, self.published + count))
        self.published += count

    @precondition(lambda self: self.broker.ready)
    @rule(count=st.integers(1, 8), octets=st.integers(0, 9))
    def deliver(self, count: int, octets: int) -> None:
        for _ in range(min(count, len(self.broker.ready))):
            tag = self.broker.deliver()
            self.unsettled.add(tag, octets)
            self.waiting.append(tag)
            self.message_of[tag] = self.broker.unacked[tag]

    @precondition(lambda self: self.waiting and len(self.batches) < 3)
    @rule(size=st.integers(1, 8))
    def take(self, size: int) -> None:
        tags = [self.waiting.popleft() for _ in range(min(size, len(self.waiting)))]
        self.batches.append(_Batch(tags))

    @precondition(lambda self: self.batches)
    @rule(place=st.integers(0, 2), state=st.sampled_from(BatchState))
    def go_on(self, place: int, state: BatchState) -> None:
        """Move any batch to any state it may enter; posting it records its messages."""
        batch = self.batches[place % len(self.batches)]
        if state is BatchState.GIVEN_BACK:
            return
        before = batch.progress.state
        try:
            batch.progress.reach(state)
        except WrongTurnError:
            assert batch.progress.state is before
            return
        if state is BatchState.WRITTEN:
            self.done |= {self.message_of[tag] for tag in batch.tags}
        if state is BatchState.ACKED:
            self._settle(batch.tags)
            self.batches.remove(batch)

    @precondition(lambda self: any(len(one.tags) > 1 for one in self.batches))
    @rule(place=st.integers(0, 2), which=st.integers(0, 7))
    def bury_poison(self, place: int, which: int) -> None:
        """A dead letter is confirmed, and its delivery acked before its neighbours are."""
        batch = self.batches[place % len(self.batches)]
        if batch.progress.state is BatchState.ACKED or len(batch.tags) < 2:
            return
        tag = batch.tags.pop(which % len(batch.tags))
        self.done.add(self.message_of[tag])
        self._settle([tag])

    @rule()
    def give_back(self) -> None:
        """The channel is cut: nothing of it is acked any more, not even by a batch that is done."""
        for batch in self.batches:
            batch.progress.reach(BatchState.GIVEN_BACK)
            with pytest.raises(WrongTurnError):
                batch.progress.reach(BatchState.ACKED)
        self.batches.clear()
        self.waiting.clear()
        self.unsettled = Unsettled()
        self.message_of.clear()
        self.broker.end_channel()

    @precondition(lambda self: self.batches)
    @rule()
    def drop_without_a_cut(self) -> None:
        """Even if the channel lived on after batches were dropped, no ack would cover them."""
        for batch in self.batches:
            batch.progress.reach(BatchState.GIVEN_BACK)
        self.batches.clear()

    @rule(tag=st.integers(0, 60))
    def settle_twice(self, tag: int) -> None:
        """What was settled, or never came, is not settled again."""
        if tag in self.broker.unacked:
            return
        before = len(self.unsettled)
        with pytest.raises(UnknownTagError):
            self.unsettled.settle([tag])
        assert len(self.unsettled) == before

    def _settle(self, tags: list[int]) -> None:
        for ack in self.unsettled.settle(tags):
            self.broker.take_ack(ack)

    @invariant()
    def nothing_is_acked_that_is_not_done(self) -> None:
        assert self.broker.acked <= self.done

    @invariant()
    def both_sides_count_the_same_deliveries(self) -> None:
        assert len(self.unsettled) == len(self.broker.unacked)
        if not self.broker.unacked:
            assert self.unsettled.octets == 0


TestPipeline = _Pipeline.TestCase


def test_a_whole_run_of_deliveries_costs_one_ack() -> None:
    unsettled = Unsettled()
    for tag in range(1, 6):
        unsettled.add(tag, 1)

    assert unsettled.settle([1, 2]) == [Ack(2, is_multiple=True)]
    assert unsettled.settle([4]) == [Ack(4, is_multiple=False)]
    assert unsettled.settle([3, 5]) == [Ack(5, is_multiple=True)]


def test_a_batch_behind_one_that_is_not_settled_is_acked_one_by_one() -> None:
    unsettled = Unsettled()
    for tag in range(1, 6):
        unsettled.add(tag, 1)

    assert unsettled.settle([1, 3, 4]) == [
        Ack(1, is_multiple=True),
        Ack(3, is_multiple=False),
        Ack(4, is_multiple=False),
    ]
