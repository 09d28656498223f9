"""Webhooks: where events may be sent, when again, and how they are signed."""

from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from contracts.webhooks import (
    RETRY_DELAYS_S,
    SECRET_BYTES,
    WebhookTargets,
    is_public,
    secret_text,
    url_fault,
)
from notifier.webhooks.delivery import next_delay_s, signed_headers
from notifier.webhooks.egress import Egress, PublicResolver


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example/in",
        "https://",
        "https:///in",
        "https://localhost/in",
        "https://intranet/in",
        "https://127.0.0.1/in",
        "https://10.1.2.3:8443/in",
        "https://169.254.1.1/",
        "https://[::1]/",
        "https://[fe80::1]/",
        "https://[fec0::1]/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://0x7f.0.0.1/",
        "https://10.0x1/",
        "https://127.0.0.1./",
        "https://user:secret@shop.example/",
        "https://shop.example/#part",
        "https://shop.example:0x50/",
        "https://shop.example/\n",
        "ftp://shop.example/",
        "https://shop.example/" + "a" * 2048,
    ],
)
def test_an_address_that_is_not_everybody_s_is_refused(url: str) -> None:
    assert url_fault(url, WebhookTargets.PUBLIC) is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/in",
        "https://1.shop.example/",
        "https://93.184.215.14:8443/x?y=z",
        "https://[2606:4700::1]/",
    ],
)
def test_a_public_address_is_taken(url: str) -> None:
    assert url_fault(url, WebhookTargets.PUBLIC) is None


def test_where_any_target_may_be_named_plain_http_inside_may_be() -> None:
    assert url_fault("http://127.0.0.1:9000/in", WebhookTargets.ANY) is None
    assert url_fault("file:///etc/hosts", WebhookTargets.ANY) is not None


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104  # nothing listens
        "100.64.0.1",
        "192.168.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::ffff:93.184.215.14",
        "64:ff9b::5db8:d70e",
        "2002:5db8:d70e::1",
        "fc00::1",
        "fec0::1",
        "4000::1",
        "::ffff:0:5db8:d70e",
        "ff02::1",
        "no address",
    ],
)
def test_addresses_inside_and_those_that_carry_another_are_not_public(address: str) -> None:
    assert not is_public(address)


async def test_a_name_that_leads_inside_is_not_connected_to() -> None:
    resolver = PublicResolver()

    # A name inside is told like one that there is not (RFC 6761).
    for name in ("localhost", "nothing.invalid"):
        with pytest.raises(OSError, match=r"^the name leads to no address, or to one of a private"):
            await resolver.resolve(name, 443)
    await resolver.close()


async def test_no_log_of_attempts_tells_which_names_there_are_inside() -> None:
    egress = Egress(WebhookTargets.PUBLIC, user_agent="test")

    # The first is this machine's where its names say so.
    outcomes = [
        await egress.post(f"https://{name}:1/in", b"{}", {})
        for name in ("localhost.localdomain", "nothing.invalid")
    ]

    assert len({one.error for one in outcomes}) == 1
    await egress.close()


async def test_what_was_allowed_once_is_judged_again_before_it_is_sent() -> None:
    egress = Egress(WebhookTargets.PUBLIC, user_agent="test")

    outcome = await egress.post("http://127.0.0.1:1/in", b"{}", {})

    assert not outcome.is_taken
    assert outcome.error is not None
    await egress.close()


def test_an_attempt_that_failed_is_repeated_eight_times_in_all() -> None:
    pauses = [next_delay_s(retries) for retries in range(1, len(RETRY_DELAYS_S) + 1)]

    assert pauses == [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000, None]


def test_exactly_the_bytes_are_signed_with_each_secret() -> None:
    secrets = [secret_text(bytes([number]) * SECRET_BYTES) for number in (1, 2)]
    body = '{"name":"Grüße","amount":"1.00"}'.encode()

    headers = signed_headers("0199", body, secrets, datetime.now(tz=UTC))

    for secret in secrets:
        assert Webhook(secret).verify(body, headers) == {"name": "Grüße", "amount": "1.00"}
