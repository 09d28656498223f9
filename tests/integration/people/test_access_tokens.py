"""Access tokens: what lets somebody in, and all that does not."""

import base64
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ingress.people.issuers import foreign_user_id
from ingress.people.token_keys import TokenKeys
from tests.integration.people.issuing import NAME, OtherIssuer
from tests.integration.people.persons import People, Person
from tests.support import Answer, eventually


@pytest.fixture(scope="module")
async def person(people: People) -> Person:
    """Somebody whose token others would like to have."""
    return await people.person()


async def tried(people: People, token: str) -> Answer:
    """Ask for something that every person may, with a token."""
    return await people.nobody.call(
        "GET", "/v1/transactions", params={"idempotency_key": "x"}, headers=bearer(token)
    )


def bearer(token: str) -> dict[str, str]:
    """Return the header with a token."""
    return {"Authorization": f"Bearer {token}"}


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token says."""
    return dict(jwt.decode(token, options={"verify_signature": False}))


def part(value: Any) -> str:
    """Return a part of a token."""
    text = value if isinstance(value, bytes) else orjson.dumps(value)
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


async def test_a_token_says_who_for_whom_and_until_when(person: Person) -> None:
    token = person.tokens["access_token"]
    claims, header = claims_of(token), jwt.get_unverified_header(token)

    assert (header["alg"], header["typ"]) == ("EdDSA", "at+jwt")
    assert set(claims) == {"iss", "aud", "exp", "nbf", "iat", "sub", "scope", "sid", "role"}
    assert claims["exp"] - claims["iat"] == person.tokens["expires_in"] == 600
    assert claims["sub"] == str(await person.id())
    assert "operations" not in claims["scope"].split()


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("iss", "somebody else"),
        ("aud", "something else"),
        ("exp", -3600),
        ("exp", None),
        ("nbf", 3600),
        ("nbf", None),
        ("iat", None),
        ("sub", None),
        ("sub", "019aa3b0-3c1e-7d0a-8001-5b0f0a9c7e21"),
        ("sub", "admin"),
        ("sid", None),
        ("sid", "019aa3b0-3c1e-7d0a-8001-5b0f0a9c7e22"),
        ("sid", 7),
        ("scope", None),
        ("scope", 7),
        ("role", None),
    ],
)
async def test_a_token_with_a_wrong_claim_lets_nobody_in(
    people: People, person: Person, keys_directory: Path, claim: str, value: Any
) -> None:
    """Signed with our own key: the claim alone is wrong."""
    signer = TokenKeys(keys_directory).signer()
    claims = claims_of(person.tokens["access_token"])
    if value is None:
        del claims[claim]
    else:
        claims[claim] = int(time.time()) + value if claim in {"exp", "nbf"} else value
    try:
        token = jwt.encode(
            claims, signer.private_key, algorithm="EdDSA", headers=_headers(signer.key_id)
        )
    except TypeError:
        pytest.skip("the library writes no such token")
    answer = await tried(people, token)

    assert (answer.status, answer.code) == (401, "unauthenticated")


def _headers(key_id: str) -> dict[str, str]:
    return {"kid": key_id, "typ": "at+jwt"}


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none", "typ": "at+jwt"},
        {"alg": "None", "typ": "at+jwt", "kid": "{kid}"},
        {"alg": "HS256", "typ": "at+jwt", "kid": "{kid}"},
        {"alg": "RS256", "typ": "at+jwt", "kid": "{kid}"},
        {"alg": "EdDSA", "typ": "at+jwt", "kid": "{kid}"},
        {"alg": "EdDSA", "typ": "at+jwt", "kid": "../../dev/null"},
        {"alg": "EdDSA", "typ": "at+jwt", "kid": "' OR '1'='1"},
        {"alg": "EdDSA", "typ": "at+jwt", "kid": ["{kid}"]},
        {"alg": "EdDSA", "typ": "at+jwt", "kid": {"a": 1}},
        {"alg": "EdDSA", "typ": "at+jwt"},
        {"alg": "EdDSA", "typ": "at+jwt", "kid": "{kid}", "crit": ["exp"]},
        {"alg": "EdDSA", "typ": "at+jwt", "kid": "{kid}", "jku": "http://127.0.0.1:1/"},
        [],
        7,
    ],
)
@pytest.mark.parametrize("signature", ["", "its own", "x" * 64])
async def test_a_token_with_a_forged_header_lets_nobody_in(
    people: People, person: Person, header: Any, signature: str
) -> None:
    token = person.tokens["access_token"]
    kid = jwt.get_unverified_header(token)["kid"]
    _, payload, own = token.split(".")
    forged = part(orjson.loads(orjson.dumps(header).replace(b"{kid}", kid.encode())))
    end = own if signature == "its own" else part(signature.encode()) if signature else ""
    answer = await tried(people, f"{forged}.{payload}.{end}")

    assert (answer.status, answer.code) == (401, "unauthenticated")


async def test_our_public_key_is_no_shared_secret(
    people: People, person: Person, keys_directory: Path
) -> None:
    """What a verifier would accept that lets the token choose the algorithm."""
    [(kid, key)] = TokenKeys(keys_directory).public_keys(_now()).items()
    _, payload, _ = person.tokens["access_token"].split(".")
    header = part({"alg": "HS256", "typ": "at+jwt", "kid": kid})
    for secret in (
        key.public_bytes_raw(),
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        part(key.public_bytes_raw()).encode(),
    ):
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
            f"{header}.{payload}".encode(), secret
        )
        answer = await tried(people, f"{header}.{payload}.{part(signature)}")

        assert (answer.status, answer.code) == (401, "unauthenticated")


async def test_a_token_of_an_unknown_key_lets_nobody_in(people: People, person: Person) -> None:
    key = Ed25519PrivateKey.generate()
    claims = claims_of(person.tokens["access_token"])
    kid = jwt.get_unverified_header(person.tokens["access_token"])["kid"]
    for name in (kid, "unknown"):
        token = jwt.encode(claims, key, algorithm="EdDSA", headers=_headers(name))
        assert (await tried(people, token)).status == 401


async def test_what_is_signed_for_something_else_is_no_access_token(
    people: People, person: Person, keys_directory: Path
) -> None:
    signer = TokenKeys(keys_directory).signer()
    claims = claims_of(person.tokens["access_token"])
    for kind in ("JWT", None, "at+JWT "):
        headers: dict[str, Any] = {"kid": signer.key_id, "typ": kind}
        token = jwt.encode(claims, signer.private_key, algorithm="EdDSA", headers=headers)
        assert (await tried(people, token)).status == 401


async def test_a_tampered_token_lets_nobody_in(people: People, person: Person) -> None:
    token = person.tokens["access_token"]
    header, _, signature = token.split(".")
    claims = {**claims_of(token), "role": "admin", "scope": "users:write"}
    for forged in (
        f"{header}.{part(claims)}.{signature}",
        f"{token[:-4]}AAAA",
        f"{token}.{signature}",
        f"{token}=",
        token.replace(".", ".."),
        "..",
        "a.b.c",
        f"{part(b'[' * 2500)}.{part({})}.{part(b'x')}",
        f"{part({'alg': 'EdDSA'})}.{part(b'[' * 2500)}.{part(b'x')}",
        f"{part(bytes(range(128, 160)))}.{part({})}.{part(b'x')}",
        f"{header}.{'x' * 5000}.{signature}",
    ):
        answer = await tried(people, forged)
        assert (answer.status, answer.code) == (401, "unauthenticated"), forged[:80]
    assert (await tried(people, token)).status == 200


async def test_a_refresh_token_is_no_access_token(people: People, person: Person) -> None:
    assert (await tried(people, person.tokens["refresh_token"])).status == 401


async def test_a_token_is_worth_no_more_than_today_s_role(people: People) -> None:
    admin = await people.person("admin")
    assert (await admin.call("GET", "/v1/users")).status == 200
    await people.fetch("UPDATE users SET role = 'customer' WHERE email = $1", admin.email)

    async def is_lowered() -> bool:
        return (await admin.call("GET", "/v1/users")).status == 403

    await eventually(is_lowered, what="the role is felt", within_s=2)


async def test_a_token_is_worth_no_more_than_when_it_was_issued(people: People) -> None:
    person = await people.person()
    await people.fetch("UPDATE users SET role = 'admin' WHERE email = $1", person.email)
    refused = await person.call("GET", "/v1/users")
    again = await people.post("refresh", refresh_token=person.tokens["refresh_token"])
    person.tokens = again.json

    assert refused.status == 403
    assert (await person.call("GET", "/v1/users")).status == 200


async def test_keys_are_rotated_and_tokens_of_the_key_before_are_believed(
    people: People, keys_directory: Path
) -> None:
    before = await people.person()
    made = TokenKeys(keys_directory).rotate(_now())
    after = await people.person()
    published = (await people.nobody.get("/.well-known/jwks.json")).json["keys"]

    assert jwt.get_unverified_header(after.tokens["access_token"])["kid"] == made.key_id
    assert (await before.call("GET", "/v1/users/me")).status == 200
    assert made.key_id in {one["kid"] for one in published}
    assert len(published) >= 2


def _now() -> datetime:
    return datetime.now(UTC)


@pytest.mark.parametrize(("algorithm", "kid"), [("RS256", "rsa"), ("ES256", "ec")])
async def test_another_issuer_s_people_are_let_in(
    people: People, other_issuer: OtherIssuer, algorithm: str, kid: str
) -> None:
    key = other_issuer.rsa if kid == "rsa" else other_issuer.ec
    token = other_issuer.token(key, algorithm=algorithm, kid=kid)
    answer = await people.nobody.call(
        "POST", "/v1/wallets", json={"currency": "JPY"}, headers=bearer(token)
    )
    me = await people.nobody.call("GET", "/v1/users/me", headers=bearer(token))

    assert answer.status in {201, 409}
    if answer.status == 201:
        assert answer.json["owner_id"] == str(foreign_user_id(NAME, "somebody"))
    assert (me.status, me.code) == (403, "insufficient_scope")


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "something else"},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"nbf": 4_000_000_000},
        {"iss": "ackledger"},
        {"iss": "https://issuer.example/"},
    ],
)
async def test_another_issuer_s_wrong_tokens_let_nobody_in(
    people: People, other_issuer: OtherIssuer, claims: dict[str, Any]
) -> None:
    assert (await tried(people, other_issuer.token(**claims))).status == 401


async def test_another_issuer_s_token_is_signed_by_a_key_that_fits(
    people: People, other_issuer: OtherIssuer
) -> None:
    stranger = OtherIssuer()
    tokens = [
        other_issuer.token(stranger.rsa),
        other_issuer.token(stranger.ec, algorithm="ES256", kid="ec"),
        other_issuer.token(other_issuer.ec, algorithm="ES256", kid="rsa"),
        other_issuer.token(other_issuer.rsa, algorithm="RS512"),
        other_issuer.token(b"secret" * 8, algorithm="HS256", kid="shared"),
        other_issuer.token(Ed25519PrivateKey.generate(), algorithm="EdDSA", kid="unknown"),
    ]

    assert [(await tried(people, token)).status for token in tokens] == [401] * len(tokens)


async def test_unknown_keys_have_the_issuer_asked_once_a_minute(
    people: People, other_issuer: OtherIssuer
) -> None:
    for number in range(20):
        assert (await tried(people, other_issuer.token(kid=f"unknown-{number}"))).status == 401

    assert other_issuer.asked <= 2
