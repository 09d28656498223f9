"""Deliveries are verified as another library signs them, and nothing else is let through."""

import json
import time
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook

from ackledger.client import WebhookVerificationError, verify_webhook
from contracts.representations import examples
from contracts.webhooks import secret_text

_NEW, _OLD = secret_text(b"n" * 24), secret_text(b"o" * 24)
_BODY = json.dumps(examples.TRANSACTION_EVENT, ensure_ascii=False).encode()
_NOW_S = 1_798_372_800


def delivery(*secrets: str, body: bytes = _BODY, at_s: int = _NOW_S) -> dict[str, str]:
    moment = datetime.fromtimestamp(at_s, tz=UTC)
    signatures = [Webhook(one).sign("evt-1", moment, body.decode()) for one in secrets]
    return {
        "Webhook-Id": "evt-1",
        "Webhook-Timestamp": str(at_s),
        "Webhook-Signature": " ".join(signatures),
    }


def verify(headers: dict[str, str], secrets: str | list[str] = _NEW, body: bytes = _BODY) -> Any:
    return verify_webhook(body, headers, secrets, now_s=_NOW_S)


def test_what_another_library_signs_is_the_event() -> None:
    event = verify(delivery(_NEW))

    assert str(event.event_id) == examples.TRANSACTION_EVENT["event_id"]
    assert str(event.amount) == examples.TRANSACTION_EVENT["amount"]


def test_while_a_secret_is_rotated_either_side_may_be_first() -> None:
    both = delivery(_OLD, _NEW)

    assert verify(both, _NEW) == verify(both, _OLD)
    assert verify(delivery(_OLD), [_NEW, _OLD]) == verify(delivery(_NEW), [_NEW, _OLD])


def test_the_clock_of_the_machine_is_asked_by_default() -> None:
    headers = delivery(_NEW, at_s=int(time.time()))

    assert verify_webhook(_BODY, headers, _NEW).event_type == "transaction.completed"


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({"Webhook-Id": "evt-2"}, _BODY),
        ({"Webhook-Timestamp": str(_NOW_S + 1)}, _BODY),
        ({}, _BODY + b" "),
        ({"Webhook-Signature": ""}, _BODY),
        ({"Webhook-Signature": "v1,not base64"}, _BODY),
        ({"Webhook-Signature": f"v2,{b64encode(b'x' * 32).decode()}"}, _BODY),
        ({"Webhook-Timestamp": "1e9"}, _BODY),
        ({"Webhook-Timestamp": ""}, _BODY),
        ({"Webhook-Id": ""}, _BODY),
    ],
)
def test_whatever_was_changed_is_refused(changes: dict[str, str], body: bytes) -> None:
    with pytest.raises(WebhookVerificationError):
        verify({**delivery(_NEW), **changes}, body=body)


def test_another_s_secret_is_refused() -> None:
    with pytest.raises(WebhookVerificationError):
        verify(delivery(_OLD))


@pytest.mark.parametrize("off_s", [-301, 301])
def test_an_old_delivery_is_refused_and_so_is_one_from_the_future(off_s: int) -> None:
    headers = delivery(_NEW, at_s=_NOW_S + off_s)

    with pytest.raises(WebhookVerificationError):
        verify(headers)
    event = verify_webhook(_BODY, headers, _NEW, now_s=_NOW_S, tolerance_s=301)
    assert event.event_type == "transaction.completed"


def test_a_signed_body_that_is_no_event_is_refused() -> None:
    with pytest.raises(WebhookVerificationError):
        verify(delivery(_NEW, body=b"{}"), body=b"{}")


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64"])
def test_a_bad_secret_is_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="a secret is whsec_ and base64") as refused:
        verify(delivery(_NEW), secret)
    assert "not base64" not in str(refused.value)
