"""The calls on transactions."""

from datetime import timedelta
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
    PreviewRequest,
    TransactionBatchRequest,
    TransactionBatchResult,
    TransactionPage,
    TransactionPreview,
)
from contracts.representations.processing import TransactionProcessing
from contracts.representations.transaction import Transaction
from contracts.requests.terms import (
    LEGS_MAX,
    LEGS_MIN,
    ReversalRequest,
    TransactionRequest,
)
from contracts.requests.transaction import BATCH_MAX
from contracts.requests.validators import METADATA_BYTES_MAX
from contracts.scopes import Scope

METADATA_WINDOW: Final = timedelta(days=31)
"""The longest window that is searched by metadata without a wallet: a month. There is no index."""

METADATA_SEARCHED_MAX: Final = METADATA_BYTES_MAX
"""Characters of a name and a value that are searched for: longer ones nothing can have."""

_SUBMITTED: Final = (
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
)

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
        "A business refusal (no such wallet, no funds) is a FAILED transaction, not a problem. But "
        "for callers that reach only what is theirs, each wallet that is debited, held, deposited "
        "to, or named in a condition has to be theirs, and so have all those of what is reversed; "
        "otherwise it is 404 `wallet_not_found`, whether there is such a wallet or not, and "
        "nothing is recorded. The wallet that a transfer credits may be anybody's.\n\n"
        "| type | fields of its own | effect |\n"
        "|---|---|---|\n"
        "| `deposit`, `withdrawal`, `transfer` | `source_wallet_id`, `destination_wallet_id`, "
        "`amount`, `currency` | Moves the amount. The other side of a deposit (no source) or a "
        "withdrawal (no destination) is the currency's external wallet. |\n"
        f"| `journal` | `legs`, {LEGS_MIN} to {LEGS_MAX} | Changes each leg's wallet by its signed "
        "amount, all in one commit. The legs sum to zero for each currency; a wallet's limit is "
        "judged after all of them. |\n"
        "| `hold` | `source_wallet_id`, `amount`, `currency`, `destination_wallet_id?`, "
        "`expires_in_s?` | Reserves the amount: `held` grows, the balance stays. An expired hold "
        "is worth nothing from its instant on. |\n"
        "| `capture` | `hold_id`, `amount?`, `destination_wallet_id?`, `final?` | Moves held money "
        "to the destination: its own, the hold's, or else the external wallet. `final: false` "
        "keeps the rest held. |\n"
        "| `release` | `hold_id` | Frees what the hold still holds. |\n"
        "| `reversal` | `reverses`, `amount?`, `force?` | Moves money back, in part or whole, "
        "until the whole is reversed. A journal, or a member of an atomic batch, only as a whole. "
        "`force` lets it overdraw, and needs the scope `operations`. |\n\n"
        "Every type takes `valid_until`, `execute_at` and `conditions`."
    ),
    scope=Scope.TRANSACTIONS_WRITE,
    parameters=(parameters.IDEMPOTENCY_KEY, parameters.PREFER),
    request=TransactionRequest,
    request_examples={
        "transfer": {"summary": "A transfer", "value": examples.TRANSFER_REQUEST},
        "deposit": {"summary": "A deposit", "value": examples.DEPOSIT_REQUEST},
        "withdrawal": {"summary": "A withdrawal", "value": examples.WITHDRAWAL_REQUEST},
        "hold": {"summary": "A hold", "value": examples.HOLD_REQUEST},
        "capture": {"summary": "A capture of a part", "value": examples.CAPTURE_REQUEST},
        "release": {"summary": "A release", "value": examples.RELEASE_REQUEST},
        "journal": {"summary": "A payment with a fee", "value": examples.JOURNAL_REQUEST},
        "reversal": {"summary": "A reversal of a part", "value": examples.REVERSAL_REQUEST},
        "scheduled": {
            "summary": "A transfer for later, under a condition",
            "value": examples.SCHEDULED_REQUEST,
        },
    },
    responses=_SUBMITTED,
    problems=(
        ProblemCode.WALLET_NOT_FOUND,
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
        "body that is no such list fails as a whole.\n\n"
        "With `mode: atomic` all are accepted or none: one invalid item refuses the request, with "
        "a pointer for each fault, and nothing is recorded. They share a `batch_id`, are executed "
        "at the same time, and are posted in one commit, or all are FAILED: the one that was "
        "refused with its own code, the others `batch_failed`. The same batch again is a replay "
        "of all; its keys in any other request are `idempotency_key_reused`."
    ),
    scope=Scope.TRANSACTIONS_WRITE,
    request=TransactionBatchRequest,
    request_examples={
        "batch": {"summary": "Two transactions", "value": examples.BATCH_REQUEST},
        "atomic": {
            "summary": "Both or none",
            "value": {"mode": "atomic", **examples.BATCH_REQUEST},
        },
    },
    responses=(
        Response(
            202,
            "Every item, accepted or refused",
            model=TransactionBatchResult,
            headers=(ResponseHeader.RETRY_AFTER,),
            example=examples.BATCH_RESULT,
        ),
    ),
    problems=(ProblemCode.WALLET_NOT_FOUND, ProblemCode.IDEMPOTENCY_KEY_REUSED, *BODY_PROBLEMS),
)

_REVERSE: Final = Operation(
    operation_id="reverse_transaction",
    method="POST",
    path="/v1/transactions/{transaction_id}/reverse",
    tag=Tag.TRANSACTIONS,
    summary="Reverse a transaction",
    description=(
        "Submits a transaction of type `reversal`: the same as `POST /v1/transactions` with "
        "`reverses`, but that a transaction that there is not is a 404. `amount` is a part; by "
        "default what is left is reversed. Several reversals may follow one another until the "
        "whole is reversed: then the transaction is REVERSED."
    ),
    scope=Scope.TRANSACTIONS_WRITE,
    parameters=(
        parameters.path_id("transaction_id"),
        parameters.IDEMPOTENCY_KEY,
        parameters.PREFER,
    ),
    request=ReversalRequest,
    request_examples={
        "whole": {"summary": "What is left", "value": {}},
        "part": {
            "summary": "A part",
            "value": {"amount": "10.00", "description": "Goods returned"},
        },
    },
    responses=_SUBMITTED,
    problems=(
        ProblemCode.WALLET_NOT_FOUND,
        ProblemCode.TRANSACTION_NOT_FOUND,
        *IDEMPOTENCY_PROBLEMS,
        *BODY_PROBLEMS,
    ),
)

_CANCEL: Final = Operation(
    operation_id="cancel_transaction",
    method="POST",
    path="/v1/transactions/{transaction_id}/cancel",
    tag=Tag.TRANSACTIONS,
    summary="Cancel a scheduled transaction",
    description=(
        "A SCHEDULED transaction becomes FAILED `cancelled`, and with it the other members of its "
        "atomic batch, `batch_failed`. Any other is a 409 `not_cancellable`. The same key again "
        "answers 200 with the transaction. Takes no body."
    ),
    scope=Scope.TRANSACTIONS_WRITE,
    parameters=(parameters.path_id("transaction_id"), parameters.IDEMPOTENCY_KEY),
    responses=(
        Response(
            200,
            "The transaction, FAILED",
            model=Transaction,
            headers=(ResponseHeader.IDEMPOTENCY_REPLAYED,),
            example=examples.CANCELLED_TRANSACTION,
        ),
    ),
    problems=(
        ProblemCode.WALLET_NOT_FOUND,
        ProblemCode.TRANSACTION_NOT_FOUND,
        ProblemCode.NOT_CANCELLABLE,
        *IDEMPOTENCY_PROBLEMS,
        *READ_PROBLEMS,
    ),
)

_PREVIEW: Final = Operation(
    operation_id="preview_transactions",
    method="POST",
    path="/v1/transactions/preview",
    tag=Tag.TRANSACTIONS,
    summary="Preview transactions",
    description=(
        "What posting now would do, decided by the code that posts, on one snapshot of the book; "
        "nothing is written, and no key is used or needed. The body is that of one transaction or "
        "of a batch request, whose transactions are posted in their order, each on what those "
        "before it have left. `execute_at` does not enter: they are posted as if they were due. "
        "Any invalid item refuses the request."
    ),
    scope=Scope.TRANSACTIONS_WRITE,
    also_scope=Scope.WALLETS_READ,
    request=PreviewRequest,
    request_examples={
        "one": {"summary": "One transaction", "value": examples.TRANSFER_REQUEST},
        "batch": {"summary": "A batch", "value": examples.PREVIEW_BATCH_REQUEST},
    },
    responses=(
        Response(200, "What would happen", model=TransactionPreview, example=examples.PREVIEW),
    ),
    problems=(ProblemCode.WALLET_NOT_FOUND, ProblemCode.IDEMPOTENCY_KEY_INVALID, *BODY_PROBLEMS),
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

_READ_PROCESSING: Final = Operation(
    operation_id="read_transaction_processing",
    method="GET",
    path="/v1/transactions/{transaction_id}/processing",
    tag=Tag.TRANSACTIONS,
    summary="Read how a transaction is processed",
    description=(
        "For operators: by which request it came, under which trace, and what it waits for. Its "
        "dead letters, and the webhooks that were told of it, are found by `transaction_id` among "
        "`GET /v1/dead-letters` and `GET /v1/webhooks`."
    ),
    scope=Scope.OPERATIONS_READ,
    parameters=(parameters.path_id("transaction_id"),),
    responses=(
        Response(
            200,
            "How it came, and what it waits for",
            model=TransactionProcessing,
            example=examples.TRANSACTION_PROCESSING,
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
        "find one transaction. A caller with the scope `operations:read` may name another "
        "`submitter` beside an `idempotency_key`; otherwise the key is your own.\n\n"
        "`metadata` searches without an index: it goes with `wallet_id`, or with `from` and `to` "
        f"at most {METADATA_WINDOW.days} days apart. One call looks at 20,000 transactions at the "
        "most, so pages may be empty and have a `next_cursor`: follow it until it is null."
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
            "Whose `idempotency_key`; needs `operations:read` and an `idempotency_key`.",
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
        parameters.query(
            "metadata",
            "Those whose metadata has this member: its name, a colon and its value as text. The "
            "name ends at the first colon; a number or a boolean is written as in JSON.",
            {"type": "string", "pattern": "^[^:]+:", "maxLength": METADATA_SEARCHED_MAX},
            "order:4711",
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

TRANSACTION_OPERATIONS: Final = (
    _SUBMIT,
    _SUBMIT_BATCH,
    _PREVIEW,
    _READ,
    _READ_PROCESSING,
    _LIST,
    _REVERSE,
    _CANCEL,
)
