"""No credential and no client's content is written, wherever it stands in an event."""

import time
from typing import Any

import pytest

from runtime.service.logs import (
    CUT,
    EVENT_CHARS_MAX,
    REDACTED,
    SEARCHED_CHARS_MAX,
    STRING_CHARS_MAX,
    Redactor,
    escape,
    passwords_of,
    redact,
)

KEY = "ack_" + "Zk3-_q" * 7 + "x"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {KEY}",
        f"GET / HTTP/1.1\nAuthorization :Bearer {KEY}\n\n",
        f"b'Authorization: Bearer {KEY}\\x0c'",
        f"Authorization: Bearer\r\n {KEY}-tail\r\nHost: x",
        f"'Authorization': 'Bearer\\r\\n {KEY}'",
        f"(b'Authorization', b'Basic {KEY}')",
        f'{{"token":"{KEY}"}}',
        f"GET /x?access_token={KEY}&a=1",
        KEY[: len("ack_") + 20],
    ],
)
def test_a_key_is_hidden_in_every_form_of_a_request(text: str) -> None:
    shown = redact(text)

    assert KEY[10:20] not in shown
    assert REDACTED in shown


@pytest.mark.parametrize(
    "text",
    [
        "amqp://ledger:hunter2@broker:5672/",
        "postgresql://ledger:hunter2@db/books?x=1",
        "redis://:hunter2@cache/0",
        "amqp://a:b@h/ and then amqp://a:hunter2@h/",
        "postgresql://ledger:se@cret/hunter2@db/books",
        "password='hunter2' host=db",
        'the answer: {"password": "a\\"hunter2"}',
        '{\\"password\\": \\"hunter2\\"}',
        "--requirepass: hunter2",
        "X-Api-Key: two hunter2",
        "Cookie: a=1; session=hunter2",
        "client_secret=hunter2",
        "PGPASSWORD=hunter2",
        "duplicate key value\nDETAIL:  Failing row contains (1, hunter2,\n hunter2).",
        "invalid input for query argument $3 in element #1 of x sequence: 'hunter2' (expected str)",
        'invalid input syntax for type json: "hunter2"',
        "1 validation error\n  Input should be a string [input_value='hunter2', input_type=str]",
    ],
)
def test_a_secret_is_hidden_in_every_form_of_a_message(text: str) -> None:
    assert "hunter2" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "ConnectionRefusedError(111, \"Connect call failed ('127.0.0.1', 5432)\")",
        "dead_letter_ack_failed",
        "deadlock detected\nDETAIL:  Process 71 waits for ShareLock; blocked by process 72.",
        'password authentication failed for user "ledger"',
        "http://127.0.0.1:8080/v1/wallets?cursor=abc",
        "idempotency_key_reused",
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN",
        "postgresql://ledger@db:5432/books",
    ],
)
def test_what_operators_need_stays(text: str) -> None:
    assert redact(text) == text


def test_a_long_text_is_cut_between_words_so_that_no_secret_loses_its_form() -> None:
    text = "x " * (SEARCHED_CHARS_MAX // 2 - 10) + "amqp://ledger:" + "hunter2" * 900 + "@broker/"

    shown = redact(text)

    assert shown.endswith(CUT)
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    "part",
    ["token", "://a:", "bearer ", "authorization", "x-", "eyJ", "ack_", "value\\", "token:'"],
)
def test_nobody_can_write_what_takes_long_to_search(part: str) -> None:
    text = (part * SEARCHED_CHARS_MAX)[:SEARCHED_CHARS_MAX]
    began = time.process_time()
    redact(text)

    assert time.process_time() - began < 0.2


def test_an_event_is_redacted_however_deep_its_strings_are() -> None:
    class Odd:
        def __repr__(self) -> str:
            return f"<Odd {KEY}>"

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError(KEY)

    event = {
        "event": f"failed with {KEY}",
        "headers": {"Host": "x"},
        "api_key": "anything",
        "set-cookie": "anything",
        "nested": [({"deep": {f"Bearer {KEY}": f"Bearer {KEY}"}},), Odd(), Broken()],
        "raw": KEY.encode(),
        "transactions": 5,
        "is_new": True,
        "nothing": None,
    }

    shown = Redactor()(None, "error", event)

    assert KEY not in repr(shown)
    assert "anything" not in repr(shown)
    assert shown["headers"] == REDACTED
    assert (shown["transactions"], shown["is_new"], shown["nothing"]) == (5, True, None)
    assert shown["nested"][2] == "<Broken, not shown: RuntimeError>"


def test_passwords_of_the_settings_are_hidden_where_they_have_no_form() -> None:
    urls = [
        "amqp://ledger:p%40ssword-1@h/",
        "redis://:0123456789@h/",
        "postgresql://ackledger:ackledger@h/ackledger",
        "amqp://a:short@h/",
    ]
    known = passwords_of(urls)
    shown = Redactor(known)(None, "", {"event": "p@ssword-1 p%40ssword-1 0123456789 ackledger.x"})

    assert shown["event"] == f"{REDACTED} {REDACTED} {REDACTED} ackledger.x"


def test_an_event_is_bounded() -> None:
    event: dict[str, Any] = {str(n): "a" * 100_000 for n in range(200)}
    loop: list[Any] = []
    loop.append(loop)
    event["loop"] = loop
    event["many"] = list(range(100_000))
    shown = Redactor()(None, "", event)

    assert all(len(one) <= STRING_CHARS_MAX + len(CUT) for one in shown.values())
    assert sum(len(one) for one in shown.values() if isinstance(one, str)) < 2 * EVENT_CHARS_MAX
    assert len(shown["many"]) < 200


def test_a_line_steers_no_terminal_and_forges_no_other_line() -> None:
    assert escape("a\x1b[31m\nb\x9b\ud800") == "a\\x1b[31m\\nb\\x9b\\ud800"
    assert escape("plain é") == "plain é"
