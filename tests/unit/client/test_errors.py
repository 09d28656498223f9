"""Problems are typed errors, whoever wrote them, and hold no secret."""

import pickle
from typing import Any

import pytest

from ackledger.client import (
    AsyncClient,
    AsyncPublisher,
    Client,
    ConflictError,
    ForbiddenError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    NotFoundError,
    ProblemError,
    Publisher,
    RateLimitedError,
    UnauthenticatedError,
    UnavailableError,
)
from ackledger.client.errors import problem_error
from contracts.problems import PROBLEMS, FieldError, ProblemCode
from contracts.representations.examples import problem_example


@pytest.mark.parametrize("code", list(ProblemCode))
def test_every_problem_of_the_contract_is_an_error_of_its_kind(code: ProblemCode) -> None:
    told = problem_example(code, path="/v1/wallets")
    error = problem_error(PROBLEMS[code].status, told)

    assert (error.status, error.code, error.detail) == (told["status"], code, told["detail"])
    assert error.request_id == told["request_id"]
    assert type(error) is not ProblemError


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"code": "unauthenticated"}, UnauthenticatedError),
        (403, None, ForbiddenError),
        (404, {"code": "wallet_not_found"}, NotFoundError),
        (409, {"code": "not_cancellable"}, ConflictError),
        (412, {"code": "precondition_failed"}, ConflictError),
        (413, "<html>too large</html>", InvalidRequestError),
        (422, {"code": "idempotency_key_reused"}, IdempotencyKeyReusedError),
        (422, {"code": "of a later release"}, InvalidRequestError),
        (429, {"code": "rate_limited"}, RateLimitedError),
        (500, {"code": "internal_error"}, UnavailableError),
        (502, "<html>bad gateway</html>", UnavailableError),
    ],
)
def test_the_kind_follows_from_status_and_code(
    status: int, body: Any, kind: type[ProblemError]
) -> None:
    assert type(problem_error(status, body)) is kind


def test_an_error_names_the_invalid_fields_and_survives_another_process() -> None:
    told = {"code": "validation_failed", "errors": [{"pointer": "/amount", "detail": "no"}]}
    error = problem_error(422, told, request_id="checkout-7")

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    assert copy.errors == (FieldError("/amount", "no"),)
    assert str(copy) == str(error) == "validation_failed:  (request checkout-7)"


def test_no_key_and_no_password_is_in_a_representation() -> None:
    key, url = "ack_secret", "amqp://shop:hush@broker.example/"
    shown = [
        repr(Client("https://ledger.example/", key)),
        repr(AsyncClient("https://ledger.example", key)),
        repr(Publisher(url)),
        repr(AsyncPublisher(url)),
    ]

    assert shown[0] == "Client('https://ledger.example')"
    assert shown[2] == "Publisher(shop@broker.example)"
    assert all(key not in one and "hush" not in one for one in shown)


@pytest.mark.parametrize("url", ["ledger.example", "ftp://x", "https://user:hush@ledger.example"])
def test_a_wrong_address_is_refused_and_its_password_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="URL") as refused:
        Client(url, "key")
    assert "hush" not in str(refused.value)


def test_a_key_with_a_line_break_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="visible ASCII") as refused:
        Client("https://ledger.example", "ack_\nsecret")
    assert "secret" not in str(refused.value)
