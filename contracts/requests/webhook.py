"""What a client may ask of webhooks."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, Strict

from contracts.problems import ContractError, FieldError
from contracts.requests.transaction import validated
from contracts.webhooks import (
    ALL_EVENTS,
    EVENT_TYPES,
    URL_MAX,
    WALLETS_MAX,
    WebhookStatus,
    WebhookTargets,
    url_fault,
)

_Url = Annotated[str, Field(min_length=1, max_length=URL_MAX, examples=["https://shop.example/in"])]
_Types = Annotated[
    tuple[Annotated[str, Field(max_length=64)], ...],
    Strict(strict=False),
    Field(
        min_length=1,
        max_length=len(EVENT_TYPES) + 1,
        description=f"Types of events, or `{ALL_EVENTS}` for all",
        json_schema_extra={"items": {"type": "string", "enum": [*EVENT_TYPES, ALL_EVENTS]}},
    ),
]
_WalletId = Annotated[UUID, Strict(strict=False)]
_Wallets = Annotated[
    tuple[_WalletId, ...],
    Strict(strict=False),
    Field(
        min_length=1,
        max_length=WALLETS_MAX,
        description="Only events that name one of these; without it all that you may see",
    ),
]
_Status = Annotated[WebhookStatus, Strict(strict=False)]


def _unnamed() -> Any:
    return None


class WebhookRequest(BaseModel):
    """The body that makes a webhook."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: _Url
    event_types: _Types
    wallet_ids: _Wallets | None = None
    status: _Status = WebhookStatus.ACTIVE


class WebhookChange(BaseModel):
    """The body that changes a webhook; what it does not name stays."""

    model_config = ConfigDict(extra="forbid", strict=True)

    # None where it is not named; only `wallet_ids` may be null, for all wallets.
    url: _Url = Field(default_factory=_unnamed)
    event_types: _Types = Field(default_factory=_unnamed)
    wallet_ids: _Wallets | None = None
    status: _Status = Field(default_factory=_unnamed)


class WebhookRecovery(BaseModel):
    """The body that has failed deliveries tried again."""

    model_config = ConfigDict(extra="forbid", strict=True)

    since: Annotated[AwareDatetime, Strict(strict=False)] = Field(
        description="Of events that came at this moment or later (RFC 3339)"
    )


_REPEATED: Final = "names one twice"


def webhook_request_of(body: object, targets: WebhookTargets) -> WebhookRequest:
    """Return the webhook that a decoded JSON body asks for; raises ContractError."""
    request = validated(WebhookRequest, body)
    _check(request.url, request.event_types, request.wallet_ids, targets)
    return request


def webhook_change_of(body: object, targets: WebhookTargets) -> WebhookChange:
    """Return the change that a decoded JSON body asks for; raises ContractError."""
    change = validated(WebhookChange, body)
    if not change.model_fields_set:
        raise ContractError.invalid_fields(
            [FieldError("", "name at least one of url, event_types, wallet_ids, status")]
        )
    _check(change.url, change.event_types, change.wallet_ids, targets)
    return change


def recovery_start_of(body: object) -> datetime:
    """Return the moment since which deliveries are to be tried again; raises ContractError."""
    return validated(WebhookRecovery, body).since


def _check(
    url: str | None,
    event_types: tuple[str, ...] | None,
    wallet_ids: tuple[UUID, ...] | None,
    targets: WebhookTargets,
) -> None:
    errors = []
    fault = None if url is None else url_fault(url, targets)
    if fault is not None:
        errors.append(FieldError("/url", fault))
    for number, one in enumerate(event_types or ()):
        if one != ALL_EVENTS and one not in EVENT_TYPES:
            known = ", ".join((*EVENT_TYPES, ALL_EVENTS))
            errors.append(FieldError(f"/event_types/{number}", f"must be one of {known}"))
    if len(set(event_types or ())) < len(event_types or ()):
        errors.append(FieldError("/event_types", _REPEATED))
    if len(set(wallet_ids or ())) < len(wallet_ids or ()):
        errors.append(FieldError("/wallet_ids", _REPEATED))
    if errors:
        raise ContractError.invalid_fields(errors)
