"""Which bodies are JSON: the same for both doors."""

import pytest

from contracts.json import content_type_error


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        " application/json ;charset = UTF-8 ; version=1",
        'application/json; charset="utf-8"',
        "application/json; charset=utf8",
        "application/json;",
        "application/problem+json",
    ],
)
def test_json_in_utf_8_is_fine_in_any_case_and_spacing(content_type: str) -> None:
    assert content_type_error(content_type) is None


@pytest.mark.parametrize(
    ("content_type", "detail"),
    [
        ("text/plain", "the content type is 'text/plain', and only application/json is read"),
        ("application/json; charset=utf-16", "the charset is 'utf-16', and JSON is UTF-8"),
        ("; charset=utf-8", "the content type is '', and only application/json is read"),
    ],
)
def test_anything_else_is_refused_with_what_is_wrong(content_type: str, detail: str) -> None:
    assert content_type_error(content_type) == detail
