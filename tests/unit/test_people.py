"""Addresses and passwords; keys of other issuers, as they publish them."""

import jwt
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from contracts.people import (
    EMAIL_MAX,
    PASSWORD_MAX,
    normalized_email,
    normalized_password,
    password_weakness,
)
from contracts.scopes import Role
from ingress.people.issuers import foreign_user_id, keys_in
from runtime.service.settings import (
    ConfigurationError,
    IssuerAlgorithm,
    PeopleSettings,
    TokenIssuer,
    load_settings,
)

EMAIL = "ada.lovelace@example.com"
ISSUER = TokenIssuer(
    issuer="https://issuer.example",
    jwks_url="https://issuer.example/keys",
    audience="wallets",
    algorithms=(IssuerAlgorithm.RS256, IssuerAlgorithm.EDDSA),
    role=Role.CUSTOMER,
)


@pytest.mark.parametrize("text", [EMAIL, "ADA.Lovelace@EXAMPLE.com", "a+b@localhost", "a@b.c-d.e"])
def test_an_address_is_compared_in_small_letters(text: str) -> None:
    assert normalized_email(text) == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@-example.com",
        "ada@example..com",
        "ada@exam ple.com",
        "ada@example.com\n",
        "ada@example.com, bob@example.com",
        "Ada <ada@example.com>",
        "ad\N{LATIN SMALL LETTER A WITH DIAERESIS}@example.com",
        "\N{CYRILLIC SMALL LETTER A}da@example.com",
        f"{'a' * 65}@example.com",
        f"{'a' * 64}@{'.'.join(['b' * 60] * 4)}"[: EMAIL_MAX + 1],
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an e-mail address"):
        normalized_email(text)


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "Tr0ub4dor&3!",
        "\N{CJK UNIFIED IDEOGRAPH-5B57}abc\N{GREEK SMALL LETTER OMEGA} \N{PILE OF POO}x1",
        "8 letter",
        "abcd" * (PASSWORD_MAX // 4),
    ],
)
def test_a_password_may_be_of_anything(password: str) -> None:
    assert password_weakness(password, email=EMAIL) is None


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "PassWord1",
        "12345678",
        "        ",
        "abababab",
        "my ada.lovelace!",
        "EXAMPLE.COM1",
        "x" * (PASSWORD_MAX + 1),
        # What these become is one of the common ones.
        "\N{FULLWIDTH LATIN SMALL LETTER P}assword1",
    ],
)
def test_a_weak_password_is_told_from_a_good_one(password: str) -> None:
    assert password_weakness(password, email=EMAIL) is not None


def test_a_password_is_the_same_however_a_keyboard_writes_it() -> None:
    composed = "caf\N{LATIN SMALL LETTER E WITH ACUTE} noir 1"
    decomposed = "cafe\N{COMBINING ACUTE ACCENT} noir 1"

    assert normalized_password(composed) == normalized_password(decomposed)


def test_of_what_an_issuer_publishes_the_usable_keys_are_taken() -> None:
    rsa, okp = jwt.algorithms.RSAAlgorithm, jwt.algorithms.OKPAlgorithm
    strong = rsa.to_jwk(generate_private_key(65537, 2048).public_key(), as_dict=True)
    weak = rsa.to_jwk(generate_private_key(65537, 1024).public_key(), as_dict=True)  # noqa: S505
    ours = okp.to_jwk(Ed25519PrivateKey.generate().public_key(), as_dict=True)
    document = {
        "keys": [
            {**strong, "kid": "strong"},
            {**ours, "kid": "edwards"},
            {**strong, "kid": "encrypts", "use": "enc"},
            {**strong, "kid": "longer", "alg": "RS512"},
            {**weak, "kid": "weak"},
            {**strong},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
            {"kty": "RSA", "kid": "halved", "n": strong["n"]},
            {"kid": 7},
            "text",
            None,
        ]
    }

    assert set(keys_in(orjson.dumps(document), ISSUER)) == {"strong", "edwards"}


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": 7}', b"\xff"])
def test_what_is_no_set_of_keys_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        keys_in(document, ISSUER)


def test_people_of_two_issuers_are_never_the_same() -> None:
    assert foreign_user_id("a", "b/c") != foreign_user_id("a/b", "c")
    assert foreign_user_id("a", "b") == foreign_user_id("a", "b")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"jwks_url": "http://issuer.example/keys"}, "https"),
        ({"algorithms": ["HS256"]}, "RS256"),
        ({"algorithms": []}, "at least 1 item"),
        ({"role": "owner"}, "customer"),
        ({"secret": "x"}, "not permitted"),
    ],
)
def test_an_issuer_that_cannot_be_believed_is_refused(
    changed: dict[str, object], told: str
) -> None:
    issuer = {**ISSUER.model_dump(mode="json"), **changed}
    with pytest.raises(ConfigurationError, match=f"ACKLEDGER_TOKEN_ISSUERS.*{told}"):
        load_settings(PeopleSettings, {"ACKLEDGER_TOKEN_ISSUERS": orjson.dumps([issuer]).decode()})


def test_without_settings_there_is_no_other_issuer() -> None:
    assert load_settings(PeopleSettings, {}).token_issuers == ()
