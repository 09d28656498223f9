"""Whatever the secret and whatever stands around it: it never comes through."""

import string
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st

from runtime.service.logs import Redactor

_VISIBLE = string.ascii_letters + string.digits + "!#$%&()*+,-./:;<=>?@[]^_`{|}~"
_URL_SAFE = string.ascii_letters + string.digits + "-_"

# The marks keep a generated secret from being a part of the text around it.
keys = st.text(_URL_SAFE, min_size=39, max_size=39).map(lambda text: f"ack_q7{text}7q")
passwords = st.text(_VISIBLE, min_size=1, max_size=60).map(lambda text: f"q7{text}7q")
surroundings = st.text(max_size=200)

_KEY_FORMS = [
    "{}",
    "Authorization: Bearer {}",
    "authorization :\tbearer {}\x0c",
    "Bearer\r\n {}",
    "b'Authorization: Bearer {}\\x00'",
    '{{"api_key":"{}"}}',
    "https://host/path?token={}&b=2",
]
_PASSWORD_FORMS = [
    "amqp://ledger:{}@broker:5672/",
    "postgresql://:{}@db/books",
    "password={}",
    '"password": "{}"',
    "{{'client_secret': '{}', 'a': 1}}",
    "Cookie: session={}; a=b",
    "X-Api-Key: {}",
    "Authorization: Digest {}, realm=x",
]


def _shown(text: str) -> str:
    nested = {"event": text, "exception": [{"exc_value": text, "frames": [{"name": text}]}]}
    return repr(Redactor()(None, "error", nested))


@given(key=keys, before=surroundings, after=surroundings, form=st.sampled_from(_KEY_FORMS))
def test_no_api_key_comes_through(key: str, before: str, after: str, form: str) -> None:
    shown = _shown(before + form.format(key) + after)

    assert key[4:] not in shown


@given(
    password=passwords,
    before=surroundings,
    after=surroundings,
    form=st.sampled_from(_PASSWORD_FORMS),
)
def test_no_password_comes_through(password: str, before: str, after: str, form: str) -> None:
    shown = _shown(before + " " + form.format(password) + " " + after)

    # Inside repr a backslash is doubled; no form of ours makes one.
    assert password not in shown


@given(user=passwords, password=passwords, before=surroundings)
def test_no_basic_credentials_come_through(user: str, password: str, before: str) -> None:
    encoded = b64encode(f"{user}:{password}".encode()).decode()

    assert encoded not in _shown(f"{before} Basic {encoded}\r\nHost: x")
