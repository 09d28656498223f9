"""Whatever happens in whatever order, the database's books are those of a model that is simple."""

from collections import Counter
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contracts.identifiers import external_wallet_id
from contracts.money import format_minor
from contracts.record import Submission
from contracts.requests.references import atomic
from contracts.requests.transaction import TransactionCommand
from ledger.words import HoldStatus, TransactionStatus, TransactionType, WalletStatus
from processor.intake import Item
from tests.property.bodies import journal, move
from tests.property.model import (
    PENDING,
    LetterState,
    Model,
    ModelLetter,
    ModelTransaction,
    ModelWallet,
)
from tests.property.real_ledger import PASSING, Crash, RealLedger, new_submitter, open_ledger
from tests.property.strategies import CURRENCIES

STEPS: Final = 25
EXAMPLES_SHARE: Final = 5
"""One example is some hundred round trips to a server: a fifth of what pure tests run."""

PROVEN_EACH: Final = 5
FUNDS: Final = 400
"""What each wallet has at the start: a few of the largest amounts, so that there is enough and then
there is not."""

_NOBODY: Final = UUID(int=999)
_NOT_REVERSIBLE: Final = frozenset(
    {TransactionType.HOLD, TransactionType.RELEASE, TransactionType.REVERSAL}
)
_KINDS: Final = ("deposit", "deposit", "withdrawal", "transfer", "transfer", "hold", "hold")


@dataclass(frozen=True)
class Piece:
    """A part of a message: a recorded transaction by its key and id, or a whole submission."""

    submission: Submission
    id: UUID | None

    @property
    def key(self) -> str:
        """What it is known by."""
        return self.submission.command.idempotency_key

    @property
    def is_member(self) -> bool:
        """Whether it is of an atomic batch."""
        terms = self.submission.command.terms
        return terms is not None and terms.batch_id is not None

    @property
    def item(self) -> Item:
        """What a poster is given."""
        return self.submission if self.id is None else self.id


class LedgerMachine(RuleBasedStateMachine):
    """One submitter's world: requests are thought of, come in by either door, and are posted."""

    wallets: Bundle[UUID] = Bundle("wallets")
    commands: Bundle[TransactionCommand] = Bundle("commands")
    letters: Bundle[UUID] = Bundle("letters")

    def __init__(self, ledger: RealLedger, completed: Counter[TransactionType]) -> None:
        """`completed` counts over all machines what was completed after each had begun."""
        super().__init__()
        self.ledger = ledger
        self.completed = completed
        self.steps = 0
        self.begun: set[str] = set()
        self.model = Model()
        self.submitter = new_submitter()
        self.queue: list[list[Piece]] = []
        self.dead_letters: dict[UUID, ModelLetter] = {}
        self.keys = 0

    # Wallets

    @initialize(target=wallets)
    def begin(self) -> MultipleResults[UUID]:
        """Three wallets with money in them, and one completed transaction of each type.

        So whatever follows finds an open hold, one that was captured in part, a transfer that
        was reversed in part, and a journal.
        """
        dollars, more, yen = (self._new_wallet(one, 0) for one in ("USD", "USD", "JPY"))
        self._post_now(
            *(move("deposit", one, one, FUNDS, "USD") for one in (dollars, more)),
            move("deposit", yen, yen, FUNDS, "JPY"),
        )
        moved, *_, first, second = self._post_now(
            move("transfer", dollars, more, 30, "USD"),
            move("withdrawal", more, more, 20, "USD"),
            journal("USD", (dollars, -5), (more, 5)),
            *(move("hold", dollars, more, minor, "USD") for minor in (30, 31, 32)),
        )
        part = {"amount": format_minor(10, "USD")}
        self._post_now(
            {"type": "capture", "hold_id": str(first.id), "final": False, **part},
            {"type": "release", "hold_id": str(second.id)},
            {"type": "reversal", "reverses": str(moved.id), **part},
        )
        begun = self.model.transactions.values()
        assert {one.command.type for one in begun} == set(TransactionType)
        assert {one.status for one in begun} == {TransactionStatus.COMPLETED}
        self.begun = set(self.model.transactions)
        return multiple(dollars, more, yen)

    @rule(
        target=wallets, currency=st.sampled_from(CURRENCIES), limit=st.sampled_from([0, 30, None])
    )
    def create_wallet(self, currency: str, limit: int | None) -> UUID:
        return self._new_wallet(currency, limit)

    def _new_wallet(self, currency: str, limit: int | None) -> UUID:
        wallet_id = self.ledger.create_wallet(currency, limit)
        self.model.wallets[wallet_id] = ModelWallet(currency, limit)
        return wallet_id

    @rule(wallet_id=wallets, status=st.sampled_from([WalletStatus.ACTIVE, *WalletStatus]))
    def change_wallet(self, wallet_id: UUID, status: WalletStatus) -> None:
        self.ledger.set_status(wallet_id, status)
        self.model.wallets[wallet_id].status = status

    # What comes in by the doors

    @rule(
        target=commands,
        kind=st.sampled_from(_KINDS),
        ends=st.tuples(wallets, wallets),
        stranger=st.sampled_from([None, None, None, None, _NOBODY, external_wallet_id("USD")]),
        minor=st.integers(1, 100),
        is_own_currency=st.integers(0, 9).map(bool),
    )
    def think_of(
        self,
        kind: str,
        ends: tuple[UUID, UUID],
        stranger: UUID | None,
        minor: int,
        is_own_currency: bool,  # noqa: FBT001  # Hypothesis calls it by name
    ) -> TransactionCommand:
        source, destination = ends[0], stranger or ends[1]
        known = ends[0] if kind != "deposit" else ends[1]
        currency = self.model.wallets[known].currency
        if not is_own_currency:
            currency = next(one for one in CURRENCIES if one != currency)
        return self._command(move(kind, source, destination, minor, currency))

    @rule(
        target=commands,
        ends=st.lists(wallets, min_size=1, max_size=5),
        minors=st.lists(st.integers(-60, 60).filter(bool), min_size=5, max_size=5),
    )
    def think_of_journal(self, ends: list[UUID], minors: list[int]) -> TransactionCommand:
        """Some wallets, perhaps one of them several times, and what is over from outside."""
        currency = self.model.wallets[ends[0]].currency
        legs: list[tuple[UUID | None, int]] = list(zip(ends, minors, strict=False))
        rest = -sum(minor for _, minor in legs)
        if rest:
            legs.append((None, rest))
        if len(legs) == 1:
            legs *= 2
        return self._command(journal(currency, *legs))

    @precondition(lambda self: self.model.transactions)
    @rule(
        target=commands,
        kind=st.sampled_from(["capture", "capture", "release", "reversal", "reversal"]),
        minor=st.sampled_from([None, None, 1, 10, 40]),
        is_final=st.booleans(),
        data=st.data(),
    )
    def think_of_sequel(
        self,
        kind: str,
        minor: int | None,
        is_final: bool,  # noqa: FBT001
        data: st.DataObject,
    ) -> TransactionCommand:
        """What refers to a transaction that is recorded, of whatever type and status it is."""
        recorded = list(self.model.transactions.values())
        holds = [one for one in recorded if one.command.type is TransactionType.HOLD]
        fit = recorded if kind == "reversal" else holds or recorded
        other = data.draw(st.sampled_from(fit), label="other")
        body: dict[str, Any] = {"type": kind}
        body["reverses" if kind == "reversal" else "hold_id"] = str(other.id)
        if kind == "capture":
            body["final"] = is_final
        money = other.command.money
        if minor is not None and kind != "release" and money is not None:
            body["amount"] = format_minor(minor, money.currency)
        return self._command(body)

    @rule(
        target=commands,
        command=commands,
        wallet_id=wallets,
        wanted=st.sampled_from(["version", "available_at_least", "balance_at_most"]),
        much=st.integers(0, 60),
    )
    def think_of_condition(
        self, command: TransactionCommand, wallet_id: UUID, wanted: str, much: int
    ) -> TransactionCommand:
        """The same as another, on a condition that may be met."""
        wallet = self.model.wallets[wallet_id]
        value = wallet.entries if wanted == "version" else format_minor(much, wallet.currency)
        conditions = [{"wallet_id": str(wallet_id), wanted: value}]
        return self._command({**self.ledger.body_of(command), "conditions": conditions})

    def _command(self, body: dict[str, Any]) -> TransactionCommand:
        self.keys += 1
        return self.ledger.command({**body, "idempotency_key": f"key-{self.keys}"})

    @precondition(lambda self: self.keys)
    @rule(batch=st.lists(commands, min_size=1, max_size=3), is_http=st.booleans())
    def submit_together(self, batch: list[TransactionCommand], is_http: bool) -> None:  # noqa: FBT001
        """An atomic batch, by either door."""
        members = atomic(
            [self._command(self.ledger.body_of(one)) for one in batch], submitter=self.submitter
        )
        if is_http:
            self._record(members, is_announced=True)
        else:
            self.queue.append([Piece(one, None) for one in self._submissions(members)])

    @precondition(lambda self: any(one.hold for one in self.model.transactions.values()))
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        """A hold's time is over, whatever state it is in."""
        holds = [key for key, one in self.model.transactions.items() if one.hold]
        key = data.draw(st.sampled_from(holds), label="hold")
        self.ledger.expire(self.model.transactions[key].id)
        self.model.expire(key)

    @precondition(lambda self: self.keys)
    @rule(batch=st.lists(commands, min_size=1, max_size=4), is_announced=st.booleans())
    def submit(self, batch: list[TransactionCommand], is_announced: bool) -> None:  # noqa: FBT001
        """Over HTTP: recorded at once, and perhaps never announced."""
        self._record(batch, is_announced=is_announced)

    @precondition(lambda self: self.keys)
    @rule(batch=st.lists(commands, min_size=1, max_size=3))
    def publish(self, batch: list[TransactionCommand]) -> None:
        """From upstream: recorded when it is posted."""
        self.queue.append([Piece(one, None) for one in self._submissions(batch)])

    @rule(command=commands, more=st.integers(1, 3), is_http=st.booleans())
    def reuse_key(self, command: TransactionCommand, more: int, is_http: bool) -> None:  # noqa: FBT001
        """The same key with other content."""
        other = self.ledger.command({**self.ledger.body_of(command), "description": str(more)})
        if is_http:
            self._record([other], is_announced=True)
        else:
            self.publish([other])

    def _record(self, batch: Sequence[TransactionCommand], *, is_announced: bool) -> None:
        submissions = self._submissions(batch)
        rows = self.ledger.record(submissions)
        message = []
        for submission, row in zip(submissions, rows, strict=True):
            command = submission.command
            is_new = command.idempotency_key not in self.model.transactions
            self.model.record(command, row.id)
            assert row.is_new == is_new
            assert row.is_same == self.model.is_same(command)
            assert row.id == self.model.transactions[command.idempotency_key].id
            if row.is_same and row.is_pending:
                message.append(Piece(submission, row.id))
        if message and is_announced:
            self.queue.append(message)

    def _submissions(self, batch: Sequence[TransactionCommand]) -> list[Submission]:
        return [Submission(self.submitter, command) for command in batch]

    # What is done at once, and what is open or done is followed up before it is over

    @rule(
        kind=st.sampled_from(["hold", "hold", "withdrawal", "transfer", "journal", "deposit"]),
        ends=st.tuples(wallets, wallets),
        minor=st.integers(1, 100),
    )
    def post_at_once(self, kind: str, ends: tuple[UUID, UUID], minor: int) -> None:
        """What can be completed, while its wallet has what it takes."""
        source, destination = ends
        currency = self.model.wallets[ends[kind == "deposit"]].currency
        if kind == "journal":
            # It pays the world outside, and gets a part of that back.
            back = minor // 3 or 1
            legs = ((source, -minor - back), (source, back), (None, minor))
            self._post_now(journal(currency, *legs))
        else:
            self._post_now(move(kind, source, destination, minor, currency))

    @precondition(lambda self: self.open_holds)
    @rule(
        data=st.data(),
        part=st.sampled_from([None, None, 1, 10]),
        is_final=st.booleans(),
        is_release=st.integers(0, 2).map(lambda lot: lot == 0),
    )
    def end_hold(
        self,
        data: st.DataObject,
        part: int | None,
        is_final: bool,  # noqa: FBT001
        is_release: bool,  # noqa: FBT001
    ) -> None:
        """A capture, in part or of the rest, or a release of what is open now."""
        hold = data.draw(st.sampled_from(self.open_holds), label="hold")
        if is_release:
            self._post_now({"type": "release", "hold_id": str(hold.id)})
            return
        body: dict[str, Any] = {"type": "capture", "hold_id": str(hold.id), "final": is_final}
        if part is not None:
            body["amount"] = format_minor(part, hold.legs[0].currency)
        self._post_now(body)

    @precondition(lambda self: self.reversible)
    @rule(data=st.data(), part=st.sampled_from([None, None, 1, 10]))
    def reverse(self, data: st.DataObject, part: int | None) -> None:
        """A reversal, in part or of the rest, of what is completed now."""
        done = data.draw(st.sampled_from(self.reversible), label="completed")
        body: dict[str, Any] = {"type": "reversal", "reverses": str(done.id)}
        if part is not None and done.amount is not None:
            body["amount"] = format_minor(part, done.legs[0].currency)
        self._post_now(body)

    @property
    def open_holds(self) -> list[ModelTransaction]:
        """The holds that can still be captured."""
        recorded = self.model.transactions.values()
        return [one for one in recorded if one.hold and one.hold.status is HoldStatus.OPEN]

    @property
    def reversible(self) -> list[ModelTransaction]:
        """What has moved money and has not been reversed as a whole."""
        return [
            one
            for one in self.model.transactions.values()
            if one.status is TransactionStatus.COMPLETED and one.command.type not in _NOT_REVERSIBLE
        ]

    def _post_now(self, *bodies: dict[str, Any]) -> list[ModelTransaction]:
        """Record requests, and post them before all that waits; return them as they are then."""
        waiting, self.queue = self.queue, []
        commands = [self._command(body) for body in bodies]
        self._record(commands, is_announced=True)
        self._deliver_all()
        self.queue = waiting
        return [self.model.transactions[one.idempotency_key] for one in commands]

    def _deliver_all(self) -> None:
        for message in self.queue:
            self.ledger.post([piece.item for piece in message])
            self._posted(message)
        self.queue = []

    # Posting

    @precondition(lambda self: self.queue)
    @rule(data=st.data(), is_acked=st.booleans())
    def deliver(self, data: st.DataObject, is_acked: bool) -> None:  # noqa: FBT001
        """Some messages, in any order, one perhaps twice; unacked ones come again."""
        messages = self._some_messages(data)
        pieces = [piece for message in messages for piece in message]
        before = deepcopy(self.model)
        outcomes = self.ledger.post([piece.item for piece in pieces])
        self._posted(pieces)
        for piece, outcome in zip(pieces, outcomes, strict=True):
            assert outcome.transaction_id == self.model.transactions[piece.key].id
            assert outcome.is_key_reused == (piece.id is None and not self._is_same(piece))
        assert before.transactions.keys() <= self.model.transactions.keys()
        if is_acked:
            self.queue = [one for one in self.queue if one not in messages]

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def deliver_to_two(self, data: st.DataObject) -> None:
        """The same messages at once to a processor and to the one that took over from it."""
        pieces = [piece for message in self._some_messages(data) for piece in message]
        self.ledger.post_twice_at_once([piece.item for piece in pieces])
        self._posted(pieces)

    @precondition(lambda self: self.queue)
    @rule(data=st.data(), crash=st.sampled_from([None, *PASSING]))
    def deliver_in_a_row(self, data: st.DataObject, crash: Crash | None) -> None:
        """Two batches, the second decided on what the first leaves, which may fail at first."""
        first, second = (
            [piece for message in self._some_messages(data) for piece in message] for _ in range(2)
        )
        self.ledger.post_in_a_row(
            [piece.item for piece in first], [piece.item for piece in second], crashes=[crash]
        )
        self._posted(first)
        self._posted(second)

    @precondition(lambda self: self.queue)
    @rule(data=st.data(), crash=st.sampled_from(PASSING))
    def crash(self, data: st.DataObject, crash: Crash) -> None:
        """All of it happened or nothing, and nothing unless COMMIT was on its way."""
        pieces = [piece for message in self._some_messages(data) for piece in message]
        self.ledger.crash([piece.item for piece in pieces], crash)
        if crash is Crash.CANCELLED:
            before = deepcopy(self.model)
            self._posted(pieces, must_be_recorded=False)
            if self.model.snapshot() != self._real():
                self.model = before

    def _some_messages(self, data: st.DataObject) -> list[list[Piece]]:
        indexes = st.lists(st.integers(0, len(self.queue) - 1), min_size=1, max_size=5)
        return [self.queue[index] for index in data.draw(indexes, label="messages")]

    def _posted(self, pieces: Sequence[Piece], *, must_be_recorded: bool = True) -> None:
        """What posting these does to the model: first all are recorded, then they are posted."""
        ids = self.ledger.ids(self.submitter)
        for piece in pieces:
            if piece.id is None:
                recorded = ids[piece.key] if must_be_recorded else ids.get(piece.key, _NOBODY)
                self.model.record(piece.submission.command, recorded)
        wanted = [piece.key for piece in pieces if piece.id is not None or self._is_same(piece)]
        self.model.post(dict.fromkeys(wanted))

    def _is_same(self, piece: Piece) -> bool:
        return self.model.is_same(piece.submission.command)

    # What goes wrong for good: for an atomic batch as a whole, which is tested by itself

    @property
    def _independent(self) -> list[list[Piece]]:
        return [one for one in self.queue if not any(piece.is_member for piece in one)]

    @precondition(lambda self: self._independent)
    @rule(target=letters, data=st.data())
    def quarantine(self, data: st.DataObject) -> UUID:
        """The first item of a message failed alone, for a reason that nobody knows."""
        piece = data.draw(st.sampled_from(self._independent), label="message")[0]
        transaction_id, letter_id = self.ledger.quarantine(piece.item, piece.submission)
        if piece.id is None:
            self.model.record(piece.submission.command, self.ledger.ids(self.submitter)[piece.key])
        is_own = piece.id is not None or self._is_same(piece)
        is_quarantined = is_own and self.model.quarantine(piece.key)
        assert (transaction_id is not None) == is_quarantined
        key = piece.key if is_quarantined else None
        self.dead_letters[letter_id] = ModelLetter(key, [piece.submission])
        return letter_id

    @precondition(lambda self: self._independent)
    @rule(target=letters, data=st.data())
    def bury(self, data: st.DataObject) -> UUID:
        """The broker gives a message up after too many deliveries."""
        message = data.draw(st.sampled_from(self._independent), label="message")
        self.queue.remove(message)
        submissions = [piece.submission for piece in message]
        letter_id = self.ledger.bury(submissions)
        self.dead_letters[letter_id] = ModelLetter(None, submissions)
        return letter_id

    @rule(letter_id=letters, is_published=st.booleans())
    def replay(self, letter_id: UUID, is_published: bool) -> None:  # noqa: FBT001
        letter = self.dead_letters[letter_id]
        fate = self.ledger.replay(letter_id)
        if letter.state is not LetterState.OPEN:
            assert fate == "unchanged"
            return
        if letter.key is None:
            ids = self.ledger.ids(self.submitter)
            for submission in letter.submissions:
                key = submission.command.idempotency_key
                self.model.record(submission.command, ids[key])
        else:
            self.model.release(letter.key)
        conflicts = [
            one for one in letter.submissions if letter.key is None and not self._same(one)
        ]
        assert fate == ("refused" if conflicts else "replayed")
        if not conflicts:
            letter.state = LetterState.REPLAYED
        if is_published:
            self._announce(one.command.idempotency_key for one in letter.submissions)

    @rule(letter_id=consumes(letters))
    def discard(self, letter_id: UUID) -> None:
        letter = self.dead_letters[letter_id]
        is_open = letter.state is LetterState.OPEN
        assert self.ledger.discard(letter_id) == ("discarded" if is_open else "unchanged")
        if is_open:
            letter.state = LetterState.DISCARDED
            if letter.key is not None:
                self.model.give_up(letter.key)

    # The slow and certain way

    @rule()
    def reconcile(self) -> None:
        """Whatever waits is found, whoever forgot it, and is announced."""
        stale = self.ledger.stale()
        assert self.model.pending <= stale
        self._announce(key for key, one in self.model.transactions.items() if one.id in stale)

    @invariant()
    def the_books_are_those_of_the_model(self) -> None:
        assert self._real() == self.model.snapshot()

    @invariant()
    def the_books_prove_themselves(self) -> None:
        """Every so often, and at the end: to prove them takes longer than what is done to them."""
        self.steps += 1
        if self.steps % PROVEN_EACH == 0:
            assert self.ledger.findings() == []

    @invariant()
    def no_balance_is_below_its_limit(self) -> None:
        bound = [one for one in self.model.wallets.values() if one.overdraft_limit is not None]
        assert not any(one.available < 0 for one in bound)

    def teardown(self) -> None:
        """In the end the reconciler finds what is left, and all of it is posted."""
        self.reconcile()
        self._deliver_all()
        assert self.model.pending == set()
        assert self._real() == self.model.snapshot()
        assert self.ledger.findings() == []
        for key, one in self.model.transactions.items():
            if one.legs and key not in self.begun:  # it has some once it is posted
                self.completed[one.command.type] += 1

    # Shared by the rules

    def _same(self, submission: Submission) -> bool:
        return self.model.is_same(submission.command)

    def _announce(self, keys: Iterable[str]) -> None:
        pieces = []
        for key in keys:
            recorded = self.model.transactions[key]
            if recorded.status is PENDING:
                pieces.append(Piece(Submission(self.submitter, recorded.command), recorded.id))
        if pieces:
            self.queue.append(pieces)

    def _real(self) -> object:
        return self.ledger.snapshot(self.submitter, list(self.model.wallets))


def test_the_books_are_those_of_a_simple_model_whatever_happens(database_url: str) -> None:
    completed: Counter[TransactionType] = Counter()
    with open_ledger(database_url) as ledger:
        run_state_machine_as_test(
            lambda: LedgerMachine(ledger, completed),  # type: ignore[arg-type]  # any factory will do
            settings=settings(
                max_examples=max(1, settings().max_examples // EXAMPLES_SHARE),
                stateful_step_count=STEPS,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )
    # Each machine begins with one of each type; what chance adds must not be refusals alone.
    assert completed.total() >= len(TransactionType)
