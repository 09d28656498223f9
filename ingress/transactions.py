"""The calls on transactions."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import structlog
from aiohttp import web

from contracts.access import Scope
from contracts.errors import ContractError, FieldError
from contracts.identifiers import first_id_at, id_of_reference
from contracts.problems import PROBLEMS, ProblemCode
from contracts.recording import RecordedRow, Submission
from contracts.tracing import trace_id_of
from contracts.transactions import (
    BATCH_MAX,
    FINAL_STATUSES,
    Channel,
    TransactionCommand,
    TransactionStatus,
    TransactionType,
    checked_key,
    command_of,
    json_pointer,
)
from contracts.views import Json, render_transaction
from ingress.acceptance import Acceptance, Accepted
from ingress.backlog import BacklogGauge
from ingress.endpoints import RETRY_AFTER_S, Call, json_response, problem_body, problem_of
from ingress.finality import FinalityWatch
from ingress.idempotency import Standing
from ingress.parsing import ID_BYTES, uuid_of, wait_s_of
from ingress.transaction_store import TransactionFilter, TransactionStore
from runtime.windows import Window

log = structlog.get_logger()

_LAST_ID: Final = UUID(int=2**128 - 1)
_FIRST_ID: Final = UUID(int=0)
_RETRY: Final = {"Retry-After": str(RETRY_AFTER_S)}


class TransactionCalls:
    """Submit, read and list transactions."""

    def __init__(
        self,
        *,
        acceptance: Acceptance,
        store: TransactionStore,
        finality: FinalityWatch,
        backlog: BacklogGauge,
    ) -> None:
        self._acceptance = acceptance
        self._store = store
        self._finality = finality
        self._backlog = backlog

    async def submit(self, call: Call) -> web.Response:
        """POST /v1/transactions."""
        header_key = call.request.headers.get("Idempotency-Key")
        body = await call.json()
        if header_key is not None:
            checked_key(header_key)
        submission = _submission(call, command_of(body, header_key=header_key))
        self._refuse_beyond_backlog()
        accepted = (await self._acceptance.accept([submission]))[0]
        if isinstance(accepted, Exception):
            raise accepted
        return await self._accepted_response(call, submission, accepted)

    async def submit_batch(self, call: Call) -> web.Response:
        """POST /v1/transactions/batch."""
        items = _batch_items(await call.json())
        commands = [_command_or_problem(item) for item in items]
        submissions = [
            _submission(call, command)
            for command in commands
            if isinstance(command, TransactionCommand)
        ]
        self._refuse_beyond_backlog()
        accepted = iter(await self._acceptance.accept(submissions))
        outcomes = [
            command if isinstance(command, Exception) else (command, next(accepted))
            for command in commands
        ]
        return json_response(
            {"items": await self._batch_results(call, outcomes)}, status=202, headers=_RETRY
        )

    async def read(self, call: Call) -> web.Response:
        """GET /v1/transactions/{transaction_id}."""
        transaction_id = uuid_of("transaction_id", call.request.match_info["transaction_id"])
        found = await self._store.read(transaction_id)
        wait_s = wait_s_of(call.request.headers.get("Prefer"))
        if found is not None and wait_s and found["status"] not in FINAL_STATUSES:
            await self._finality.wait(transaction_id, timeout_s=wait_s)
            found = await self._store.read(transaction_id)
        if found is None:
            raise ContractError(
                ProblemCode.TRANSACTION_NOT_FOUND, f"there is no transaction {transaction_id}"
            )
        headers = _preference_applied(wait_s)
        if found["status"] == TransactionStatus.PENDING:
            headers |= _RETRY
        return json_response(found, headers=headers)

    async def list_page(self, call: Call) -> web.Response:
        """GET /v1/transactions."""
        query = call.query
        limit = query.limit()
        position = query.position("transactions", ID_BYTES)
        wanted, before = _filter_of(call)
        if position is not None:
            before = UUID(bytes=position)
        only = await self._named(call)
        if only is None:
            window = await self._store.list_page(wanted, before=before, limit=limit)
        else:
            window = Window(only, None)
        views = await self._store.read_many(window.matches)
        items = [views[one] for one in window.matches if one in views]
        if only is not None:
            items = [item for item in items if _passes(item, wanted, before)]
        following = window.next_start
        cursor = None if following is None else query.cursor("transactions", following.bytes)
        return json_response({"items": items, "next_cursor": cursor})

    async def _named(self, call: Call) -> list[UUID] | None:
        """Return the ids that a key or a reference names; None when neither is given."""
        key = call.query.text("idempotency_key")
        reference = call.query.text("reference")
        submitter = call.query.text("submitter")
        if submitter is not None:
            call.client.require(Scope.OPERATIONS)
            if key is None:
                raise ContractError(
                    ProblemCode.INVALID_PARAMETER, "submitter goes with idempotency_key"
                )
        if key is None and reference is None:
            return None
        named: set[UUID | None] = set()
        if key is not None:
            submitter = submitter or call.client.name
            named.add(await self._store.find(submitter=submitter, idempotency_key=_searched(key)))
        if reference is not None:
            named.add(_id_of(reference))
        return [one for one in named if one is not None] if len(named) == 1 else []

    def _refuse_beyond_backlog(self) -> None:
        if self._backlog.is_full:
            raise ContractError(ProblemCode.BACKLOG_FULL, "send it again after Retry-After")

    async def _accepted_response(
        self, call: Call, submission: Submission, accepted: Accepted
    ) -> web.Response:
        transaction_id = accepted.row.id
        headers = {"Location": f"/v1/transactions/{transaction_id}"}
        wait_s = wait_s_of(call.request.headers.get("Prefer"))
        if accepted.standing is Standing.CONFLICT:
            raise _conflict(submission.command)
        log.debug(
            "transaction_recorded",
            transaction_id=str(transaction_id),
            request_id=call.request_id,
            trace_id=trace_id_of(call.traceparent),
            standing=accepted.standing,
        )
        if wait_s:
            headers |= _preference_applied(wait_s)
            await self._finality.wait(transaction_id, timeout_s=wait_s)
        if accepted.standing is Standing.NEW and not wait_s:
            return json_response(
                _pending_view(submission, accepted.row), status=202, headers={**headers, **_RETRY}
            )
        found = await self._store.read(transaction_id)
        if found is None:
            raise AssertionError("a recorded transaction can be read")
        if accepted.standing is Standing.REPLAY:
            return json_response(found, headers={**headers, "Idempotency-Replayed": "true"})
        if found["status"] in FINAL_STATUSES:
            return json_response(found, headers=headers)
        return json_response(found, status=202, headers={**headers, **_RETRY})

    async def _batch_results(
        self, call: Call, outcomes: Sequence[Exception | tuple[TransactionCommand, Any]]
    ) -> list[Json]:
        """Return an item for each outcome; the replays' transactions are read in one query."""
        replays = [
            one[1].row.id
            for one in outcomes
            if isinstance(one, tuple)
            and isinstance(one[1], Accepted)
            and one[1].standing is Standing.REPLAY
        ]
        views = await self._store.read_many(replays) if replays else {}
        return [_batch_item(call, one, views) for one in outcomes]


def _submission(call: Call, command: TransactionCommand) -> Submission:
    return Submission(
        submitter=call.client.name,
        command=command,
        request_id=call.own_request_id,
        traceparent=call.traceparent,
    )


def _batch_items(body: Any) -> list[Any]:
    if not isinstance(body, dict):
        raise ContractError.invalid_fields([FieldError("", "a JSON object is expected")])
    unknown = sorted(set(body) - {"transactions"})
    if unknown:
        raise ContractError.invalid_fields(
            [FieldError(json_pointer(name), "Extra inputs are not permitted") for name in unknown]
        )
    if not isinstance(body.get("transactions"), list):
        raise ContractError.invalid_fields([FieldError("/transactions", "a list is expected")])
    items: list[Any] = body["transactions"]
    if not 1 <= len(items) <= BATCH_MAX:
        raise ContractError.invalid_fields(
            [FieldError("/transactions", f"1 to {BATCH_MAX} transactions, not {len(items)}")]
        )
    return items


def _command_or_problem(item: Any) -> TransactionCommand | ContractError:
    try:
        return command_of(item)
    except ContractError as error:
        return error


def _batch_item(
    call: Call,
    outcome: Exception | tuple[TransactionCommand, Any],
    replays: dict[UUID, Json],
) -> Json:
    if isinstance(outcome, Exception):
        return _problem_item(call, outcome)
    command, accepted = outcome
    if isinstance(accepted, Exception):
        return _problem_item(call, accepted)
    if accepted.standing is Standing.CONFLICT:
        return _problem_item(call, _conflict(command))
    if accepted.standing is Standing.REPLAY:
        return {"status_code": 200, "transaction": replays[accepted.row.id]}
    return {
        "status_code": 202,
        "transaction": _pending_view(_submission(call, command), accepted.row),
    }


def _problem_item(call: Call, error: Exception) -> Json:
    found = problem_of(error)
    body = problem_body(found, instance=call.request.rel_url.raw_path, request_id=call.request_id)
    return {"status_code": PROBLEMS[found.code].status, "problem": body}


def _conflict(command: TransactionCommand) -> ContractError:
    return ContractError(
        ProblemCode.IDEMPOTENCY_KEY_REUSED,
        f"the key '{command.idempotency_key}' stands for a request with other content",
    )


def _pending_view(submission: Submission, row: RecordedRow) -> Json:
    """Return a new transaction as it would be read now, without reading it."""
    command = submission.command
    return render_transaction(
        {
            "id": row.id,
            "idempotency_key": command.idempotency_key,
            "submitter": submission.submitter,
            "channel": Channel.HTTP,
            "type": command.type,
            "source_wallet_id": command.source_wallet_id,
            "destination_wallet_id": command.destination_wallet_id,
            "amount": command.money.minor,
            "currency": command.money.currency,
            "status": TransactionStatus.PENDING,
            "failure_code": None,
            "description": command.description,
            "metadata": command.metadata,
            "reverses": None,
            "reversed_by": None,
            "source_sequence": None,
            "created_at": row.created_at,
            "completed_at": None,
        }
    )


def _filter_of(call: Call) -> tuple[TransactionFilter, UUID]:
    """Return a list's filter, and the id below which it starts."""
    query = call.query
    start, end = query.moment("from"), query.moment("to")
    wanted = TransactionFilter(
        wallet_id=query.uuid("wallet_id"),
        status=query.word("status", TransactionStatus),
        type=query.word("type", TransactionType),
        first_id=_FIRST_ID if start is None else first_id_at(start),
    )
    return wanted, _LAST_ID if end is None else first_id_at(end)


def _passes(item: Json, wanted: TransactionFilter, before: UUID) -> bool:
    """Whether a transaction found by its name also fits the other filters."""
    wallets = (item["source_wallet_id"], item["destination_wallet_id"])
    return (
        (wanted.wallet_id is None or str(wanted.wallet_id) in wallets)
        and wanted.status in (None, item["status"])
        and wanted.type in (None, item["type"])
        and wanted.first_id <= UUID(item["id"]) < before
    )


def _searched(key: str) -> str:
    try:
        return checked_key(key)
    except ContractError as error:
        raise ContractError(
            ProblemCode.INVALID_PARAMETER, f"idempotency_key: {error.detail}"
        ) from None


def _id_of(reference: str) -> UUID | None:
    try:
        return id_of_reference(reference)
    except ValueError as error:
        raise ContractError(ProblemCode.INVALID_PARAMETER, f"reference: {error}") from None


def _preference_applied(wait_s: int) -> dict[str, str]:
    return {"Preference-Applied": f"wait={wait_s}"} if wait_s else {}
