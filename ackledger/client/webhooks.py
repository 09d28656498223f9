"""Whether a delivery of a webhook is ours: Standard Webhooks 1.0, over the bytes that came."""

import hashlib
import hmac
import re
import time
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import ValidationError

from ackledger.client.errors import WebhookVerificationError
from contracts.representations.event import TransactionEvent
from contracts.webhooks import SECRET_PREFIX

TOLERANCE_S: Final = 300.0
"""As the specification recommends: an older delivery may be one that somebody sends again."""
_MOMENT: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_SIGNATURES_MAX: Final = 16
"""One for each secret that is valid; who sends more wants to keep us busy."""


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    secrets: str | Sequence[str],
    *,
    tolerance_s: float = TOLERANCE_S,
    now_s: float | None = None,
) -> TransactionEvent:
    """Return the event of a delivery that was signed with one of the secrets, a short time ago.

    `body` is exactly what came. While a secret is rotated, give the new and the old one: either is
    enough. `now_s` is the time in seconds since 1970, the machine's by default. Raises
    WebhookVerificationError. The same event may be delivered more than once: its `event_id` is the
    header `webhook-id`.
    """
    named = {name.lower(): value for name, value in headers.items()}
    message_id, moment = named.get("webhook-id", ""), named.get("webhook-timestamp", "")
    if not message_id or not _MOMENT.fullmatch(moment):
        raise WebhookVerificationError("webhook-id or webhook-timestamp is missing or not valid")
    age_s = (time.time() if now_s is None else now_s) - int(moment)
    if abs(age_s) > tolerance_s:
        raise WebhookVerificationError("webhook-timestamp is too long ago or ahead")
    signed = f"{message_id}.{moment}.".encode() + body
    given = _signatures(named.get("webhook-signature", ""))
    keys = [_key_of(one) for one in ([secrets] if isinstance(secrets, str) else secrets)]
    # Each is compared, whatever the others gave: the time says nothing of which one fits.
    found = [
        hmac.compare_digest(hmac.digest(key, signed, hashlib.sha256), one)
        for key in keys
        for one in given
    ]
    if not any(found):
        raise WebhookVerificationError("no signature fits")
    try:
        return TransactionEvent.model_validate_json(body)
    except ValidationError as error:
        raise WebhookVerificationError("the body is no event") from error


def _signatures(header: str) -> list[bytes]:
    found = []
    for one in header.split(" ")[:_SIGNATURES_MAX]:
        version, _, text = one.partition(",")
        if version == "v1":
            try:
                found.append(b64decode(text, validate=True))
            except Base64Error:
                continue
    return found


def _key_of(secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not key:
        # Its text may be most of a secret, and is not shown.
        raise ValueError(f"a secret is {SECRET_PREFIX} and base64, as it was shown when made")
    return key
