"""The calls of the express lane: the steps of ingress/transactions.py, without a task for each.

A step that fails becomes the problem that the same failure is at the other door.
"""

import asyncio
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final
from uuid import UUID

import asyncpg

from contracts.access import Scope
from contracts.recording import Submission
from contracts.transactions import FINAL_STATUSES
from contracts.views import render_transaction
from ingress.acceptance import Accepted, Outcome, count_standing
from ingress.access import Client, unauthenticated
from ingress.answers import Answer, conflict, new_answer, read_answer, submitted_answer
from ingress.endpoints import Measure, names_of, own_request_id
from ingress.express.connection import Caller
from ingress.express.wire import Request, write_answer
from ingress.finality import Ending
from ingress.idempotency import Standing
from ingress.parsing import json_of, token_of, uuid_of, wait_s_of
from ingress.parts import Parts
from ingress.problems import problem_answer
from ingress.transactions import log_recorded, submission_of

_SUBMIT_PATH: Final = "/v1/transactions"
_READ_PATH: Final = re.compile(r"/v1/transactions/[0-9a-f-]{36}")
_JSON: Final = frozenset({"application/json", "application/json;charset=utf-8"})


class ExpressCalls:
    """Submits single transactions and reads them, for clients that no rate limits."""

    def __init__(self, parts: Parts, *, is_limited: bool) -> None:
        """`is_limited`: Redis is asked for each request; then no call is one of the lane's."""
        self._parts = parts
        self._is_limited = is_limited
        self._submissions = Measure("submit_transaction")
        self._readings = Measure("read_transaction")

    def is_known(self, request: Request) -> bool:
        """Whether the request is a plain one for one of the two calls."""
        if self._is_limited:
            return False
        if request.method == "GET":
            return _READ_PATH.fullmatch(request.path) is not None
        content_type = request.headers.get("content-type", "").lower().replace(" ", "")
        return request.path == _SUBMIT_PATH and content_type in _JSON

    def begin(self, request: Request, caller: Caller) -> None:
        """Begin a known call; the caller gets one answer, whatever happens."""
        if request.method == "GET":
            _Reading(self._parts, self._readings, request, caller).begin()
        else:
            _Submitting(self._parts, self._submissions, request, caller).begin()


class _Call(ABC):
    """One request on its way to its answer, step by step."""

    scope: ClassVar[Scope]

    def __init__(self, parts: Parts, measure: Measure, request: Request, caller: Caller) -> None:
        self._parts = parts
        self._measure = measure
        self._request = request
        self._caller = caller
        self._started = time.perf_counter()
        self._is_answered = False
        headers = request.headers
        self._wait_s = wait_s_of(headers.get("prefer"))
        self._traceparent, self._request_id = names_of(
            headers.get("traceparent"), headers.get("x-request-id")
        )

    def begin(self) -> None:
        """Ask who calls; the steps that follow lead to the answer."""
        self._step(self._identify)

    @abstractmethod
    def _run(self, client: Client) -> None:
        """Do what an admitted client asks for."""

    def _step(self, step: Callable[..., None], *arguments: Any) -> None:
        try:
            step(*arguments)
        except Exception as error:
            if self._is_answered:
                raise
            path, request_id = self._request.path, self._request_id
            self._answer(problem_answer(error, path=path, request_id=request_id))

    def _then(self, future: "asyncio.Future[Any]", step: Callable[..., None]) -> None:
        """Take a step when a future is done; it is handed the future."""
        future.add_done_callback(partial(self._step, step))

    def _identify(self) -> None:
        token = token_of(self._request.headers.get("authorization", ""))
        client = self._parts.keys.known(token)
        if client is None:
            self._then(self._parts.keys.look_up(token), self._looked_up)
        else:
            self._admit(client)

    def _looked_up(self, looked_up: "asyncio.Future[Sequence[Client | None]]") -> None:
        [client] = looked_up.result()
        if client is None:
            raise unauthenticated()
        self._admit(client)

    def _admit(self, client: Client) -> None:
        client.require(self.scope)
        self._run(client)

    def _answer(self, answer: Answer) -> None:
        self._is_answered = True
        self._measure.count(answer.status, started=self._started)
        self._caller.answer(write_answer(answer, request_id=self._request_id))


class _Submitting(_Call):
    """POST /v1/transactions."""

    scope = Scope.TRANSACTIONS_WRITE
    _submission: Submission
    _accepted: Accepted

    def _run(self, client: Client) -> None:
        self._submission = submission_of(
            json_of(self._request.body),
            header_key=self._request.headers.get("idempotency-key"),
            submitter=client.name,
            request_id=own_request_id(self._traceparent, self._request_id),
            traceparent=self._traceparent,
        )
        self._parts.backlog.refuse_beyond()
        self._then(self._parts.acceptance.record_soon([self._submission]), self._recorded)

    def _recorded(self, recorded: "asyncio.Future[Sequence[Outcome]]") -> None:
        [outcome] = recorded.result()
        if isinstance(outcome, Exception):
            raise outcome
        self._accepted = outcome
        count_standing(outcome.standing)
        if outcome.standing is Standing.CONFLICT:
            raise conflict(self._submission.command)
        log_recorded(outcome, request_id=self._request_id, traceparent=self._traceparent)
        if not self._wait_s:
            self._await_announced()
            return
        is_new = outcome.standing is Standing.NEW
        finality = self._parts.finality
        ending = finality.expect(outcome.row.id, timeout_s=self._wait_s, is_new=is_new)
        self._then(ending, self._ended)

    def _ended(self, ending: Ending) -> None:
        row = ending.result()
        if row is None:
            self._await_announced()
        else:
            self._answer_with(row)

    def _await_announced(self) -> None:
        announced = self._accepted.announced
        if announced is None or announced.done():
            self._announced(announced)
        else:
            self._then(announced, self._announced)

    def _announced(self, announced: "asyncio.Future[None] | None") -> None:
        if announced is not None:
            announced.result()  # raises where the broker did not confirm it and it is not marked
        if self._accepted.standing is Standing.NEW and not self._wait_s:
            self._answer(new_answer(self._submission, self._accepted.row))
        else:
            self._then(self._parts.store.read_soon(self._accepted.row.id), self._read)

    def _read(self, read: "asyncio.Future[Sequence[asyncpg.Record | None]]") -> None:
        [row] = read.result()
        if row is None:
            raise AssertionError("a recorded transaction can be read")
        self._answer_with(row)

    def _answer_with(self, row: asyncpg.Record) -> None:
        found = render_transaction(row)
        self._answer(submitted_answer(found, self._accepted.standing, wait_s=self._wait_s))


class _Reading(_Call):
    """GET /v1/transactions/{transaction_id}."""

    scope = Scope.TRANSACTIONS_READ
    _id: UUID

    def _run(self, client: Client) -> None:  # noqa: ARG002  # every reader sees the same
        self._id = uuid_of("transaction_id", self._request.path.rpartition("/")[2])
        self._then(self._parts.store.read_soon(self._id), self._read)

    def _read(self, read: "asyncio.Future[Sequence[asyncpg.Record | None]]") -> None:
        [row] = read.result()
        if row is None or not self._wait_s or row["status"] in FINAL_STATUSES:
            self._answer_with(row)
            return
        ending = self._parts.finality.expect(self._id, timeout_s=self._wait_s)
        self._then(ending, partial(self._ended, row))

    def _ended(self, pending: asyncpg.Record, ending: Ending) -> None:
        self._answer_with(ending.result() or pending)

    def _answer_with(self, row: asyncpg.Record | None) -> None:
        found = None if row is None else render_transaction(row)
        self._answer(read_answer(self._id, found, wait_s=self._wait_s))
