"""The calls on wallets."""

from typing import Final

from contracts.operations import parameters
from contracts.operations.shapes import (
    BODY_PROBLEMS,
    IDEMPOTENCY_PROBLEMS,
    LIST_PROBLEMS,
    READ_PROBLEMS,
    Operation,
    Response,
    ResponseHeader,
    Tag,
)
from contracts.problems import ProblemCode
from contracts.representations import examples
from contracts.representations.pages import WalletEntryPage, WalletHoldPage, WalletPage
from contracts.representations.wallet import Balance, Wallet
from contracts.requests.wallet import (
    OWNER_ID_MAX,
    RequestedKind,
    WalletChange,
    WalletRequest,
)
from contracts.scopes import Scope
from ledger.words import HoldStatus, WalletStatus

_CREATE: Final = Operation(
    operation_id="create_wallet",
    method="POST",
    path="/v1/wallets",
    tag=Tag.WALLETS,
    summary="Create a wallet",
    description=(
        "A wallet holds one currency for one owner. `overdraft_limit` is how far below zero its "
        "balance may go. An `internal` wallet belongs to the house (fees, suspense, exchange): its "
        "balance may go below zero without a limit, so it must not be given one. With an "
        "`Idempotency-Key`, the same request again answers with the wallet that the first one "
        "made, as it is now."
    ),
    scope=Scope.WALLETS_WRITE,
    parameters=(parameters.IDEMPOTENCY_KEY,),
    request=WalletRequest,
    request_examples={
        "with_owner": {"summary": "A wallet of a customer", "value": examples.WALLET_REQUEST},
        "internal": {
            "summary": "A wallet of the house",
            "value": examples.INTERNAL_WALLET_REQUEST,
        },
        "plain": {"summary": "Nothing but the currency", "value": {"currency": "EUR"}},
    },
    responses=(
        Response(
            200,
            "The wallet that this key made before",
            model=Wallet,
            headers=(
                ResponseHeader.IDEMPOTENCY_REPLAYED,
                ResponseHeader.LOCATION,
                ResponseHeader.ETAG,
            ),
            example=examples.WALLET,
        ),
        Response(
            201,
            "The new wallet",
            model=Wallet,
            headers=(ResponseHeader.LOCATION, ResponseHeader.ETAG),
            example=examples.NEW_WALLET,
        ),
    ),
    problems=(ProblemCode.WALLET_LIMIT_REACHED, *IDEMPOTENCY_PROBLEMS, *BODY_PROBLEMS),
)

_LIST: Final = Operation(
    operation_id="list_wallets",
    method="GET",
    path="/v1/wallets",
    tag=Tag.WALLETS,
    summary="List wallets",
    description=(
        "The oldest first. Filters narrow the list together. Deleted wallets are left out unless "
        "`include_deleted` is true, external wallets always."
    ),
    scope=Scope.WALLETS_READ,
    parameters=(
        parameters.query(
            "owner_id",
            "Only this owner's.",
            {"type": "string", "minLength": 1, "maxLength": OWNER_ID_MAX},
            "customer-1042",
        ),
        parameters.query("currency", "Only this currency.", parameters.CURRENCY_SCHEMA, "USD"),
        parameters.query(
            "status", "Only those in this status.", parameters.enum_schema(WalletStatus)
        ),
        parameters.query("kind", "Only this kind.", parameters.enum_schema(RequestedKind)),
        parameters.INCLUDE_DELETED,
        parameters.CURSOR,
        parameters.LIMIT,
    ),
    responses=(Response(200, "A page", model=WalletPage, example=examples.WALLET_PAGE),),
    problems=LIST_PROBLEMS,
)

_READ: Final = Operation(
    operation_id="read_wallet",
    method="GET",
    path="/v1/wallets/{wallet_id}",
    tag=Tag.WALLETS,
    summary="Read a wallet",
    description=(
        "`available` is what can be spent: `balance` - `held` + `overdraft_limit`. A deleted "
        "wallet and its history stay readable. The `ETag` is another one after any change of the "
        "answer."
    ),
    scope=Scope.WALLETS_READ,
    parameters=(parameters.path_id("wallet_id"), parameters.IF_NONE_MATCH),
    responses=(
        Response(
            200,
            "The wallet",
            model=Wallet,
            headers=(ResponseHeader.ETAG,),
            example=examples.WALLET,
        ),
        Response(304, "Your copy is current", headers=(ResponseHeader.ETAG,)),
    ),
    problems=(ProblemCode.WALLET_NOT_FOUND, *READ_PROBLEMS),
)

_CHANGE: Final = Operation(
    operation_id="change_wallet",
    method="PATCH",
    path="/v1/wallets/{wallet_id}",
    tag=Tag.WALLETS,
    summary="Change a wallet",
    description=(
        "What the body does not name stays. A FROZEN wallet moves no money either way until it is "
        "ACTIVE again. A wallet is CLOSED only at balance zero and with nothing held, and for "
        "good. `metadata` is replaced as a whole. With `If-Match`, only the version that you know "
        "is changed. An internal wallet has no `overdraft_limit`, and the wallets of the outside "
        "world cannot be changed (`not_permitted`)."
    ),
    scope=Scope.WALLETS_WRITE,
    parameters=(parameters.path_id("wallet_id"), parameters.IF_MATCH),
    request=WalletChange,
    request_examples={
        "freeze": {"summary": "Freeze it", "value": {"status": "FROZEN"}},
        "overdraft": {"summary": "Allow an overdraft", "value": {"overdraft_limit": "250.00"}},
    },
    responses=(
        Response(
            200,
            "The wallet after the change",
            model=Wallet,
            headers=(ResponseHeader.ETAG,),
            example=examples.WALLET,
        ),
    ),
    problems=(
        ProblemCode.WALLET_NOT_FOUND,
        ProblemCode.WALLET_NOT_EMPTY,
        ProblemCode.WALLET_CLOSED,
        ProblemCode.OVERDRAFT_IN_USE,
        ProblemCode.PRECONDITION_FAILED,
        ProblemCode.NOT_PERMITTED,
        *BODY_PROBLEMS,
    ),
)

_DELETE: Final = Operation(
    operation_id="delete_wallet",
    method="DELETE",
    path="/v1/wallets/{wallet_id}",
    tag=Tag.WALLETS,
    summary="Delete a wallet",
    description=(
        "Closes it, for good, by the same rules as the change to CLOSED: only at balance zero and "
        "with nothing held. Lists leave it out from then on; by its id it stays readable, with its "
        "history and `deleted_at`. To delete it again is no error. The wallets of the outside "
        "world cannot be deleted (`not_permitted`)."
    ),
    scope=Scope.WALLETS_WRITE,
    parameters=(parameters.path_id("wallet_id"), parameters.IF_MATCH),
    responses=(Response(204, "It is deleted, now or before"),),
    problems=(
        ProblemCode.WALLET_NOT_FOUND,
        ProblemCode.WALLET_NOT_EMPTY,
        ProblemCode.PRECONDITION_FAILED,
        ProblemCode.NOT_PERMITTED,
        *READ_PROBLEMS,
    ),
)

_LIST_ENTRIES: Final = Operation(
    operation_id="list_wallet_entries",
    method="GET",
    path="/v1/wallets/{wallet_id}/entries",
    tag=Tag.WALLETS,
    summary="List a wallet's entries",
    description=(
        "The wallet's history, the newest first: each posted transaction is one signed entry, "
        "numbered by `sequence` without a gap."
    ),
    scope=Scope.WALLETS_READ,
    parameters=(
        parameters.path_id("wallet_id"),
        parameters.FROM,
        parameters.TO,
        parameters.TYPE,
        parameters.CURSOR,
        parameters.LIMIT,
    ),
    responses=(Response(200, "A page", model=WalletEntryPage, example=examples.ENTRY_PAGE),),
    problems=(ProblemCode.WALLET_NOT_FOUND, *LIST_PROBLEMS),
)

_LIST_HOLDS: Final = Operation(
    operation_id="list_wallet_holds",
    method="GET",
    path="/v1/wallets/{wallet_id}/holds",
    tag=Tag.WALLETS,
    summary="List a wallet's holds",
    description=(
        "The wallet and its holds as they are at one instant: `held` is the sum of what remains of "
        "the open ones. The newest first; with `status=OPEN`, those first that expire first."
    ),
    scope=Scope.WALLETS_READ,
    parameters=(
        parameters.path_id("wallet_id"),
        parameters.query(
            "status", "Only those in this status.", parameters.enum_schema(HoldStatus), "OPEN"
        ),
        parameters.CURSOR,
        parameters.LIMIT,
    ),
    responses=(Response(200, "A page", model=WalletHoldPage, example=examples.HOLD_PAGE),),
    problems=(ProblemCode.WALLET_NOT_FOUND, *LIST_PROBLEMS),
)

_READ_BALANCE: Final = Operation(
    operation_id="read_wallet_balance",
    method="GET",
    path="/v1/wallets/{wallet_id}/balance",
    tag=Tag.WALLETS,
    summary="Read a wallet's balance at a moment",
    description="What the wallet owned at `at`, by its entries; now, when `at` is left out.",
    scope=Scope.WALLETS_READ,
    parameters=(
        parameters.path_id("wallet_id"),
        parameters.query(
            "at",
            "The moment (RFC 3339), inclusive.",
            parameters.MOMENT_SCHEMA,
            "2026-11-20T12:00:00Z",
        ),
    ),
    responses=(Response(200, "The balance", model=Balance, example=examples.BALANCE),),
    problems=(ProblemCode.WALLET_NOT_FOUND, *READ_PROBLEMS),
)

WALLET_OPERATIONS: Final = (
    _CREATE,
    _LIST,
    _READ,
    _CHANGE,
    _DELETE,
    _LIST_ENTRIES,
    _LIST_HOLDS,
    _READ_BALANCE,
)
