"""The calls on single transactions, submit and read: one telling for both HTTP paths.

A path hands in what it has read of a request, and `finish`, which takes the outcome: an answer, or
the error whose problem is to be sent. The steps are callbacks on futures that whole groups share,
so that a call needs neither a task nor a request object.
"""

import asyncio
import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg
import orjson
import structlog

from contracts.identifiers import (
    trace_id_of,
    valid_request_id,
    valid_traceparent,
)
from contracts.json import TooManyFieldsError, decode_json
from contracts.operations import WAIT_S_MAX
from contracts.problems import ContractError, FieldError, ProblemCode
from contracts.rate_limits import LimitClass
from contracts.record import RecordedRow, Submission
from contracts.representations.transaction import Json, new_view, render_transaction
from contracts.requests.parties import Parties, parties_of_command, wallets_of_row
from contracts.requests.references import resolved
from contracts.requests.terms import RequestedTerms, check_ahead
from contracts.requests.transaction import (
    FINAL_STATUSES,
    TransactionCommand,
    TransactionStatus,
    checked_key,
    command_of,
    reversal_of,
)
from contracts.scopes import Reach, Scope
from ingress.access import Guard, is_seen, shown
from ingress.authentication import Authenticator, Client, identified, token_of
from ingress.limits.limiter import NO_COSTS, Allowance, RateLimiter, admitted, class_of_type
from ingress.metrics import REQUEST_SECONDS, REQUESTS
from ingress.parsing import uuid_of
from ingress.reads.transactions import TransactionStore
from ingress.reads.wallets import WalletStore
from ingress.submit.admission import BacklogGauge, backlog_full
from ingress.submit.completion import CompletionWatch, Ending
from ingress.submit.recorder import Accepted, Outcome, Recorder, Standing, count_standing
from runtime.service.measures import Increasing

RETRY_AFTER_S: Final = 1
NO_HEADERS: Final[Mapping[str, str]] = {}
RETRY: Final[Mapping[str, str]] = {"Retry-After": str(RETRY_AFTER_S)}
_TRACE_BITS: Final = 192
"""Of a trace's id and its first span's; that all of one are zero never happens."""
_NAMES: Final = Random()  # noqa: S311  # seeded by the system; names are no secrets
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})\"?(?=$|[,;\s])", re.IGNORECASE)

log = structlog.get_logger()


class Answer(NamedTuple):
    """A status, a body of `content_type`, and the headers that belong to the call."""

    status: int
    body: bytes
    headers: Mapping[str, str] = NO_HEADERS
    content_type: str = "application/json"


Finish = Callable[[Answer | Exception], None]
"""Takes the only outcome of a call; an error stands for its problem."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the calls of both HTTP paths work with: one of each in a process."""

    callers: Authenticator
    guard: Guard
    recorder: Recorder
    store: TransactionStore
    wallets: WalletStore
    completion: CompletionWatch
    backlog: BacklogGauge
    limiter: RateLimiter

    async def views(
        self, client: Client, ids: Sequence[UUID], *, is_listed: bool = False
    ) -> dict[UUID, Json]:
        """Return transactions by their ids as a client sees them; `is_listed`: for a list."""
        if client.reach is Reach.ALL:
            return await self.store.read_many(ids, is_listed=is_listed)
        rows = await self.store.rows(ids, is_listed=is_listed)
        return await self.guard.shown(client, list(rows.values()))


Names: TypeAlias = tuple[str, str]
"""What a request is traced by: its traceparent, and its request id."""


def names_of(traceparent: str | None, request_id: str | None) -> Names:
    """Return a request's trace and its id: what the client sent where that is sane."""
    trace = valid_traceparent(traceparent) if traceparent else None
    if trace is None:
        bits = f"{_NAMES.getrandbits(_TRACE_BITS):0{_TRACE_BITS // 4}x}"
        trace = f"00-{bits[:32]}-{bits[32:]}-01"
    return trace, valid_request_id(request_id) or trace_id_of(trace)


def own_request_id(names: Names) -> str | None:
    """Return the request id where it says more than the trace id does."""
    traceparent, request_id = names
    return None if request_id == trace_id_of(traceparent) else request_id


def wait_s_of(prefer: str | None) -> int:
    """Return the seconds of `Prefer: wait=N` (RFC 7240), at most WAIT_S_MAX; 0 without one."""
    match = _WAIT.search(prefer) if prefer else None
    return min(int(match[1]), WAIT_S_MAX) if match else 0


def json_of(body: bytes) -> Any:
    """Return a decoded body; raises ContractError. Decimal numbers keep every digit."""
    try:
        return decode_json(body)
    except TooManyFieldsError as error:
        raise ContractError.invalid_fields([FieldError("", str(error))]) from None
    except ValueError as error:
        raise ContractError(ProblemCode.MALFORMED_JSON, str(error)) from None


class Measure:
    """Counts the answers of one operation and how long they took."""

    def __init__(self, operation_id: str) -> None:
        self.operation_id = operation_id
        self._seconds = REQUEST_SECONDS.labels(operation_id)
        self._by_status: dict[int, Increasing] = {}

    def count(self, status: int, *, started: float, ended: float | None = None) -> None:
        """Count an answer to a request whose head was there at `started` (perf_counter).

        `ended`: when it was answered, if that is not now.
        """
        self._seconds.observe((ended or time.perf_counter()) - started)
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = REQUESTS.labels(self.operation_id, status)
        counter.inc()


class StepCall(ABC):
    """One request on its way to its outcome, step by step."""

    scope: ClassVar[Scope]

    def __init__(self, services: Services, *, names: Names, wait_s: int, finish: Finish) -> None:
        """`finish` is called once, whatever happens; `wait_s`: how long the client may wait."""
        self._services = services
        self._names = names
        self._wait_s = wait_s
        self._finish = finish
        self._is_finished = False
        self._limits = NO_HEADERS

    def begin(self, authorization: str) -> None:
        """Find out who calls, by the header Authorization, and go on with what it asks for."""
        self._step(self._identify, token_of(authorization))

    def begin_for(self, client: Client) -> None:
        """Begin for a client that was identified, and has the scope."""
        self._step(self._count, client)

    @abstractmethod
    def _run(self, client: Client) -> None:
        """Do what an admitted client asks for."""

    def _identify(self, token: str | None) -> None:
        client = self._services.callers.known(token)
        if client is None:
            self._then(self._services.callers.look_up(token), self._identified)
        else:
            self._admit(client)

    def _identified(self, looked_up: "asyncio.Future[Sequence[Client | None]]") -> None:
        self._admit(identified(looked_up.result()))

    def _admit(self, client: Client) -> None:
        client.require(self.scope)
        self._count(client)

    def _count(self, client: Client) -> None:
        """Go on at once where no limit holds for the client, else as soon as it is counted."""
        limiter = self._services.limiter
        counted = None
        if limiter.is_limited(client):
            is_person = client.user_id is not None
            counted = limiter.count_soon(client, self._costs() if is_person else NO_COSTS)
        if counted is None:
            self._run(client)
        else:
            self._then(counted, partial(self._counted, client))

    def _counted(
        self, client: Client, counted: "asyncio.Future[Sequence[Allowance | ContractError]]"
    ) -> None:
        self._limits = admitted(counted.result())
        self._run(client)

    def _costs(self) -> Mapping[LimitClass, int]:
        """How many transactions of each class of limits a person's request asks for."""
        return NO_COSTS

    def _step(self, step: Callable[..., None], *arguments: Any) -> None:
        try:
            step(*arguments)
        except Exception as error:
            if self._is_finished:
                raise
            self._end(error)

    def _then(self, future: "asyncio.Future[Any]", step: Callable[..., None]) -> None:
        """Take a step when a future is done; it is handed the future."""
        future.add_done_callback(partial(self._step, step))

    def _end(self, outcome: Answer | Exception) -> None:
        self._is_finished = True
        if self._limits and isinstance(outcome, Answer):
            outcome = outcome._replace(headers={**outcome.headers, **self._limits})
        self._finish(outcome)


class TransactionCall(StepCall):
    """A call that ends with a transaction."""

    def _answer_row(
        self, client: Client, row: asyncpg.Record, answer: Callable[[Json], Answer]
    ) -> None:
        """End with the answer that is made of a row, as the client sees it."""
        if client.reach is Reach.ALL:
            self._end(answer(render_transaction(row)))
            return
        theirs = self._services.guard.look_up(client, wallets_of_row(row))
        self._then(theirs, lambda found: self._end(answer(shown(client, row, found.result()))))


class SubmitCall(TransactionCall):
    """POST /v1/transactions: recorded, announced or marked, and only then answered."""

    scope = Scope.TRANSACTIONS_WRITE
    _client: Client
    _submission: Submission
    _accepted: Accepted

    def __init__(
        self,
        services: Services,
        *,
        body: bytes,
        header_key: str | None,
        names: Names,
        wait_s: int,
        finish: Finish,
    ) -> None:
        """`body` calls itself JSON; `header_key` is what Idempotency-Key says."""
        super().__init__(services, names=names, wait_s=wait_s, finish=finish)
        self._body = body
        self._header_key = header_key
        self._decoded: Any = None

    def _json(self) -> Any:
        """Return the decoded body, which whoever counts by type asked for before; raises."""
        if self._decoded is None:
            self._decoded = json_of(self._body)
        return self._decoded

    def _run(self, client: Client) -> None:
        body = self._json()
        if self._header_key is not None:
            checked_key(self._header_key)
        command = self._command_of(body)
        self._client = client
        if command.terms is None:
            self._judge(command, None)
            return
        permit(client, command.terms)
        other = command.terms.other_id
        if other is None:
            self._judge(command, None)
        else:
            self._then(self._services.store.read_soon(other), partial(self._resolve, command))

    def _costs(self) -> Mapping[LimitClass, int]:
        try:
            body = self._json()
        except ContractError:
            return NO_COSTS
        return {class_of_type(body.get("type")): 1} if isinstance(body, dict) else NO_COSTS

    def _command_of(self, body: Any) -> TransactionCommand:
        return command_of(body, header_key=self._header_key)

    def _resolve(
        self,
        command: TransactionCommand,
        read: "asyncio.Future[Sequence[asyncpg.Record | None]]",
    ) -> None:
        [other] = read.result()
        self._judge(command, other)

    def _judge(self, command: TransactionCommand, other: asyncpg.Record | None) -> None:
        """Record a command, if need be once its wallets are known to be the client's."""
        if self._client.reach is Reach.ALL:
            self._record(command if command.terms is None else resolved(command, other))
            return
        parties = parties_of_command(command, other)
        ids = parties.needed if other is None else parties.needed | wallets_of_row(other)
        # What there is not is looked up as what is another's.
        looked_up = self._services.guard.look_up(self._client, ids or {UUID(int=0)})
        self._then(looked_up, partial(self._judged, command, other, parties))

    def _judged(
        self,
        command: TransactionCommand,
        other: asyncpg.Record | None,
        parties: Parties,
        looked_up: "asyncio.Future[Sequence[UUID | None]]",
    ) -> None:
        self._services.guard.judge(self._client, parties, looked_up.result())
        self._record(resolved(command, other))

    def _record(self, command: TransactionCommand) -> None:
        own_id, traceparent = own_request_id(self._names), self._names[0]
        self._submission = Submission(self._client.name, command, own_id, traceparent)
        if self._services.backlog.is_full:
            raise backlog_full()
        self._then(self._services.recorder.record_soon([self._submission]), self._recorded)

    def _recorded(self, recorded: "asyncio.Future[Sequence[Outcome]]") -> None:
        [outcome] = recorded.result()
        if isinstance(outcome, Exception):
            raise outcome
        self._accepted = outcome
        count_standing(outcome.standing)
        if outcome.standing is Standing.CONFLICT:
            raise conflict(self._submission.command)
        self._log_recorded()
        if not self._wait_s:
            self._await_secured()
            return
        is_new = outcome.standing is Standing.NEW
        completion = self._services.completion
        ending = completion.expect(outcome.row.id, timeout_s=self._wait_s, is_new=is_new)
        self._then(ending, self._ended)

    def _ended(self, ending: Ending) -> None:
        row = ending.result()
        if row is None:
            self._await_secured()
        else:
            self._answer_with(row)

    def _await_secured(self) -> None:
        secured = self._accepted.secured
        if secured is None or secured.done():
            self._secured(secured)
        else:
            self._then(secured, self._secured)

    def _secured(self, secured: "asyncio.Future[None] | None") -> None:
        if secured is not None:
            secured.result()  # raises where the broker did not confirm it and it is not marked
        if self._accepted.standing is Standing.NEW and not self._wait_s:
            self._end(_new_answer(self._submission, self._accepted.row))
        else:
            self._then(self._services.store.read_soon(self._accepted.row.id), self._read)

    def _read(self, read: "asyncio.Future[Sequence[asyncpg.Record | None]]") -> None:
        [row] = read.result()
        if row is None:
            raise AssertionError("a recorded transaction can be read")
        self._answer_with(row)

    def _answer_with(self, row: asyncpg.Record) -> None:
        standing, wait_s = self._accepted.standing, self._wait_s
        self._answer_row(
            self._client, row, partial(_submitted_answer, standing=standing, wait_s=wait_s)
        )

    def _log_recorded(self) -> None:
        """Say which transaction the request became, to whoever debugs."""
        if log.is_enabled_for(logging.DEBUG):
            traceparent, request_id = self._names
            log.debug(
                "transaction_recorded",
                transaction_id=str(self._accepted.row.id),
                request_id=request_id,
                trace_id=trace_id_of(traceparent),
                standing=self._accepted.standing,
            )


class ReverseCall(SubmitCall):
    """POST /v1/transactions/{transaction_id}/reverse: a reversal, of a transaction that exists."""

    def __init__(
        self,
        services: Services,
        *,
        transaction_id: UUID,
        body: bytes,
        header_key: str | None,
        names: Names,
        wait_s: int,
        finish: Finish,
    ) -> None:
        """`transaction_id` is the one to be reversed."""
        super().__init__(
            services, body=body, header_key=header_key, names=names, wait_s=wait_s, finish=finish
        )
        self._reversed_id = transaction_id

    def _costs(self) -> Mapping[LimitClass, int]:
        return {LimitClass.TRANSFER: 1}

    def _command_of(self, body: Any) -> TransactionCommand:
        return reversal_of(self._reversed_id, body, header_key=self._header_key)

    def _judge(self, command: TransactionCommand, other: asyncpg.Record | None) -> None:
        if other is None and self._client.reach is Reach.ALL:
            raise not_found(self._reversed_id)
        super()._judge(command, other)

    def _judged(
        self,
        command: TransactionCommand,
        other: asyncpg.Record | None,
        parties: Parties,
        looked_up: "asyncio.Future[Sequence[UUID | None]]",
    ) -> None:
        if other is None or not is_seen(self._client, other, looked_up.result()):
            raise not_found(self._reversed_id)
        super()._judged(command, other, parties, looked_up)


class ReadCall(TransactionCall):
    """GET /v1/transactions/{transaction_id}."""

    scope = Scope.TRANSACTIONS_READ
    _id: UUID
    _client: Client

    def __init__(
        self,
        services: Services,
        *,
        transaction_id: str,
        names: Names,
        wait_s: int,
        finish: Finish,
    ) -> None:
        """`transaction_id` is the last part of the path, as it was sent."""
        super().__init__(services, names=names, wait_s=wait_s, finish=finish)
        self._sent_id = transaction_id

    def _run(self, client: Client) -> None:
        self._client = client
        self._id = uuid_of("transaction_id", self._sent_id)
        self._then(self._services.store.read_soon(self._id), self._read)

    def _read(self, read: "asyncio.Future[Sequence[asyncpg.Record | None]]") -> None:
        [row] = read.result()
        if self._client.reach is Reach.ALL:
            self._seen(row)
            return
        # What there is not is looked up as what is another's.
        ids = {self._id} if row is None else wallets_of_row(row)
        looked_up = self._services.guard.look_up(self._client, ids)
        self._then(looked_up, partial(self._look, row))

    def _look(
        self,
        row: asyncpg.Record | None,
        looked_up: "asyncio.Future[Sequence[UUID | None]]",
    ) -> None:
        theirs = looked_up.result()
        self._seen(row if row is not None and is_seen(self._client, row, theirs) else None)

    def _seen(self, row: asyncpg.Record | None) -> None:
        if row is None:
            raise not_found(self._id)
        if not self._wait_s or row["status"] in FINAL_STATUSES:
            self._answer_with(row)
            return
        ending = self._services.completion.expect(self._id, timeout_s=self._wait_s)
        self._then(ending, partial(self._ended, row))

    def _ended(self, pending: asyncpg.Record, ending: Ending) -> None:
        self._answer_with(ending.result() or pending)

    def _answer_with(self, row: asyncpg.Record) -> None:
        headers = _preference_applied(self._wait_s)
        if row["status"] == TransactionStatus.PENDING:
            headers = {**headers, **RETRY}
        self._answer_row(self._client, row, lambda view: Answer(200, orjson.dumps(view), headers))


def permit(client: Client, terms: RequestedTerms) -> None:
    """Raise ContractError for what a client may not ask for, or not for so late a moment."""
    if terms.is_forced:
        client.require(Scope.OPERATIONS)
    check_ahead(terms, datetime.now(UTC))


def not_found(transaction_id: UUID) -> ContractError:
    """Return what is wrong with the id of a transaction that there is not."""
    return ContractError(
        ProblemCode.TRANSACTION_NOT_FOUND, f"there is no transaction {transaction_id}"
    )


def conflict(command: TransactionCommand) -> ContractError:
    """Return what is wrong with a key that stands for other content."""
    return ContractError(
        ProblemCode.IDEMPOTENCY_KEY_REUSED,
        f"the key '{command.idempotency_key}' stands for a request with other content",
    )


def _new_answer(submission: Submission, row: RecordedRow) -> Answer:
    """Return what a submission that was recorded just now is answered."""
    location = f"/v1/transactions/{row.id}"
    return Answer(
        202,
        new_view(submission, row),
        {"Location": location, "Retry-After": str(RETRY_AFTER_S)},
    )


def _submitted_answer(found: Json, standing: Standing, *, wait_s: int) -> Answer:
    """Return what a submission is answered that was recorded before, or whose end was awaited.

    202 for a new one that did not end in time.
    """
    headers = {"Location": f"/v1/transactions/{found['id']}", **_preference_applied(wait_s)}
    if standing is Standing.REPLAY:
        return Answer(200, orjson.dumps(found), {**headers, "Idempotency-Replayed": "true"})
    if found["status"] in FINAL_STATUSES:
        return Answer(200, orjson.dumps(found), headers)
    return Answer(202, orjson.dumps(found), {**headers, **RETRY})


def _preference_applied(wait_s: int) -> Mapping[str, str]:
    """Return the header that says how long the client was made to wait at most (RFC 7240)."""
    return {"Preference-Applied": f"wait={wait_s}"} if wait_s else NO_HEADERS
