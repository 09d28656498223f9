"""The cookie that a person's tokens are in, and the key that it is sealed with."""

import time
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from console.api import Api
from console.application import build_application
from console.composition import _cookie_key
from console.figures import Figures
from console.session import COOKIE, Cookies, Session, Sessions
from runtime.service.settings import ConfigurationError, ConsoleSettings, load_settings

_SESSION = Session(
    email="a@example.com",
    role="customer",
    access_token="access",
    refresh_token="refresh",
    expires_at=time.time(),
)


def _key(path: Path) -> bytes | None:
    return _cookie_key(load_settings(ConsoleSettings, {"ACKLEDGER_CONSOLE_KEY_FILE": str(path)}))


def _read(cookies: Cookies, sealed: str, *, name: str = COOKIE) -> Session | None:
    return cookies.read(make_mocked_request("GET", "/", headers={"Cookie": f"{name}={sealed}"}))


def test_a_cookie_outlasts_a_restart_with_the_same_key_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"0123456789abcdef" * 2)
    response = web.Response()
    Cookies(is_secure=False, key=_key(path)).write(response, _SESSION)
    sealed = response.cookies[COOKIE].value

    assert _read(Cookies(is_secure=False, key=_key(path)), sealed) == _SESSION
    assert _read(Cookies(is_secure=False), sealed) is None
    flipped = "A" if sealed[30] != "A" else "B"
    changed = sealed[:30] + flipped + sealed[31:]
    assert _read(Cookies(is_secure=False, key=_key(path)), changed) is None


def test_over_tls_the_cookie_is_this_host_s_alone() -> None:
    cookies, response = Cookies(is_secure=True), web.Response()
    cookies.write(response, _SESSION)

    written = response.cookies[f"__Host-{COOKIE}"]
    assert written["secure"]
    assert written["path"] == "/"
    assert not written["domain"]
    assert _read(cookies, written.value, name=f"__Host-{COOKIE}") == _SESSION


@pytest.mark.parametrize(
    ("is_secure", "scheme", "is_taken"),
    [(True, "https", True), (True, "http", False), (False, "http", True), (False, "https", True)],
)
async def test_over_tls_no_form_of_a_page_without_it_is_taken(
    *, is_secure: bool, scheme: str, is_taken: bool
) -> None:
    # Nobody listens at its API: what is taken comes to that.
    api = Api("http://127.0.0.1:1")
    sessions = Sessions(api, Cookies(is_secure=is_secure))
    app = build_application(api, sessions, Figures({}))
    server = TestServer(app)
    browser: TestClient[web.Request, web.Application] = TestClient(server)
    async with browser:
        origin = f"{scheme}://{server.host}:{server.port}"
        answer = await browser.post("/login", data={"email": "a"}, headers={"Origin": origin})
    await api.close()

    assert answer.status == (503 if is_taken else 403)


@pytest.mark.parametrize("content", [None, b"short"])
def test_a_key_that_is_none_is_a_wrong_setting(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError, match="ACKLEDGER_CONSOLE_KEY_FILE"):
        _key(path)
