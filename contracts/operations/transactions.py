"""The calls on transactions."""

from typing import Final

from contracts.operations import parameters
from contracts.operations.shapes import (
    BODY_PROBLEMS,
    IDEMPOTENCY_PROBLEMS,
    LIST_PROBLEMS,
    READ_PROBLEMS,
    WAIT_S_MAX,
    Operation,
    Response,
    ResponseHeader,
    Tag,
)
from contracts.problems import ProblemCode
from contracts.representations import examples
from contracts.representations.pages import (
    TransactionBatchRequest,
    TransactionBatchResult,
    TransactionPage,
)
from contracts.representations.transaction import Transaction
from contracts.requests.terms import TransactionRequest
from contracts.requests.transaction import BATCH_MAX
from contracts.scopes import Scope

_SUBMIT: Final = Operation(
    operation_id="submit_transaction",
    method="POST",
    path="/v1/transactions",
    tag=Tag.TRANSACTIONS,
    summary="Submit a transaction",
    description=(
        "202 means committed: the transaction is durable, will be posted exactly once or FAILED "
        "with a reason, and can be read at once. The key comes in the header `Idempotency-Key` or "
        "as `idempotency_key` in the body. The same key with the same content answers 200 with the "
        "first transaction in whatever state it is now; with other content, 422 "
        "`idempotency_key_reused`. With `Prefer: wait=N` the answer waits for the final state.\n\n"
        "A deposit names `destination_wallet_id`, a withdrawal `source_wallet_id`, a transfer "
        "both. A business refusal (no such wallet, no funds) is a FAILED transaction, not a "
        "problem."
    ),
    scope=Scope.TRANSACTIONS_WRITE,
    parameters=(parameters.IDEMPOTENCY_KEY, parameters.PREFER),
    request=TransactionRequest,
    request_examples={
        "transfer": {"summary": "A transfer", "value": examples.TRANSFER_REQUEST},
        "deposit": {"summary": "A deposit", "value": examples.DEPOSIT_REQUEST},
        "withdrawal": {"summary": "A withdrawal", "value": examples.WITHDRAWAL_REQUEST},
    },
    responses=(
        Response(
            200,
            "A replay, or the final state within the time of `Prefer: wait`",
            model=Transaction,
            headers=(
                ResponseHeader.LOCATION,
                ResponseHeader.IDEMPOTENCY_REPLAYED,
                ResponseHeader.PREFERENCE_APPLIED,
            ),
            example=examples.TRANSACTION,
        ),
        Response(
            202,
            "Accepted and durable, not posted yet",
            model=Transaction,
            headers=(
                ResponseHeader.LOCATION,
                ResponseHeader.RETRY_AFTER,
                ResponseHeader.PREFERENCE_APPLIED,
            ),
            example=examples.PENDING_TRANSACTION,
        ),
    ),
    problems=(
        ProblemCode.IDEMPOTENCY_KEY_MISSING,
        *IDEMPOTENCY_PROBLEMS,
        *BODY_PROBLEMS,
    ),
)

_SUBMIT_BATCH: Final = Operation(
    operation_id="submit_transaction_batch",
    method="POST",
    path="/v1/transactions/batch",
    tag=Tag.TRANSACTIONS,
    summary="Submit up to a thousand transactions",
    description=(
        f"1 to {BATCH_MAX} transactions, each with its own `idempotency_key`, accepted in their "
        "order. Each item is answered by itself, in the same order: with a `transaction`, or with "
        "the `problem` that it would have met alone. One bad item never fails the others. Only a "
        "body that is no such list fails as a whole."
    ),
    scope=Scope.TRANSACTIONS_WRITE,
    request=TransactionBatchRequest,
    request_examples={"batch": {"summary": "Two transfers", "value": examples.BATCH_REQUEST}},
    responses=(
        Response(
            202,
            "Every item, accepted or refused",
            model=TransactionBatchResult,
            headers=(ResponseHeader.RETRY_AFTER,),
            example=examples.BATCH_RESULT,
        ),
    ),
    problems=BODY_PROBLEMS,
)

_READ: Final = Operation(
    operation_id="read_transaction",
    method="GET",
    path="/v1/transactions/{transaction_id}",
    tag=Tag.TRANSACTIONS,
    summary="Read a transaction",
    description=(
        "In whatever state it is. While it is PENDING, `Retry-After` says when to ask again; with "
        f"`Prefer: wait=N` (at most {WAIT_S_MAX} s) the answer waits for the final state."
    ),
    scope=Scope.TRANSACTIONS_READ,
    parameters=(parameters.path_id("transaction_id"), parameters.PREFER),
    responses=(
        Response(
            200,
            "The transaction",
            model=Transaction,
            headers=(ResponseHeader.RETRY_AFTER, ResponseHeader.PREFERENCE_APPLIED),
            example=examples.TRANSACTION,
        ),
    ),
    problems=(ProblemCode.TRANSACTION_NOT_FOUND, *READ_PROBLEMS),
)

_LIST: Final = Operation(
    operation_id="list_transactions",
    method="GET",
    path="/v1/transactions",
    tag=Tag.TRANSACTIONS,
    summary="List transactions",
    description=(
        "The newest first. Filters narrow the list together; `idempotency_key` and `reference` "
        "find one transaction. An API key with the scope `operations` may name another "
        "`submitter` beside an `idempotency_key`; otherwise the key is your own."
    ),
    scope=Scope.TRANSACTIONS_READ,
    parameters=(
        parameters.query(
            "idempotency_key",
            "The transaction that this key named.",
            parameters.IDEMPOTENCY_KEY.schema,
            "order-4711-payment",
        ),
        parameters.query(
            "submitter",
            "Whose `idempotency_key`; needs the scope `operations` and an `idempotency_key`.",
            {"type": "string", "minLength": 1},
            "shop",
        ),
        parameters.query(
            "reference",
            "The transaction with this reference.",
            {"type": "string"},
            examples.REFERENCE,
        ),
        parameters.query(
            "wallet_id", "Those that debit or credit this wallet.", parameters.UUID_SCHEMA
        ),
        parameters.STATUS,
        parameters.TYPE,
        parameters.FROM,
        parameters.TO,
        parameters.CURSOR,
        parameters.LIMIT,
    ),
    responses=(Response(200, "A page", model=TransactionPage, example=examples.TRANSACTION_PAGE),),
    problems=LIST_PROBLEMS,
)

TRANSACTION_OPERATIONS: Final = (_SUBMIT, _SUBMIT_BATCH, _READ, _LIST)
