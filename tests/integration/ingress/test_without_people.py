"""Where no keys for access tokens are set, there are no accounts of people."""

import pytest

from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors

pytestmark = pytest.mark.long

_PERSON = {"email": "ada@example.com", "password": "correct horse battery staple"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("register", _PERSON),
        ("confirm", {"token": "x"}),
        ("login", _PERSON),
        ("refresh", {"refresh_token": "x"}),
        ("password/forgot", {"email": "ada@example.com"}),
        ("password/reset", {"token": "x", "password": "x"}),
    ],
)
async def test_nobody_signs_in(doors: CheckedDoors, path: str, body: dict[str, str]) -> None:
    async with CheckedApi(doors.system.http_url, None) as nobody:
        answer = await nobody.call("POST", f"/v1/auth/{path}", json=body)

    assert (answer.status, answer.code) == (503, "sign_in_unavailable")
    assert answer.headers["Retry-After"] == "1"


async def test_no_keys_are_published_and_no_token_lets_anybody_in(doors: CheckedDoors) -> None:
    async with CheckedApi(doors.system.http_url, "e30.e30.e30") as nobody:
        keys = await nobody.get("/.well-known/jwks.json")
        refused = await nobody.get("/v1/wallets")

    assert keys.json == {"keys": []}
    assert (refused.status, refused.code) == (401, "unauthenticated")
