"""Who looks at a page: a person's tokens, sealed in a cookie for no script and no other site.

Nothing is kept here but what is younger than a minute.
"""

import asyncio
import hashlib
import os
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import orjson
from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from console.api import Answer, Api, ApiError

COOKIE: Final = "ackledger_console"
EARLY_S: Final = 30.0
"""Before its end an access token is exchanged."""
RENEWED_KEPT_S: Final = 60.0
"""Requests that were under way with the cookie before still find what came of its exchange: a
refresh token that is used twice ends the session."""
_NONCE_OCTETS: Final = 12
_OVER: Final = frozenset({400, 401, 403, 404, 422})
"""Answers to a refresh token that will never be taken; every other may be another the next time."""


@dataclass(frozen=True, slots=True)
class Session:
    """A person who is logged in."""

    email: str
    role: str
    access_token: str
    refresh_token: str
    expires_at: float

    @property
    def is_operator(self) -> bool:
        """Whether more is shown than one's own."""
        return self.role != "customer"


class Cookies:
    """Seals sessions, and opens what it sealed."""

    def __init__(self, *, is_secure: bool, key: bytes | None = None) -> None:
        """`is_secure`: pages are reached by https, so the cookie goes nowhere else.

        `key`: 32 octets; without, it is made anew, and a restart logs everybody out.
        """
        self._cipher = AESGCM(key or AESGCM.generate_key(bit_length=256))
        self.is_secure = is_secure
        # Browsers take a cookie of the second name from this host alone, and over TLS.
        self._name = f"__Host-{COOKIE}" if is_secure else COOKIE

    def read(self, request: web.Request) -> Session | None:
        """Return whose cookie a request has; None without one, or where it is not of ours."""
        try:
            sealed = urlsafe_b64decode(request.cookies.get(self._name, ""))
            nonce, text = sealed[:_NONCE_OCTETS], sealed[_NONCE_OCTETS:]
            return Session(**orjson.loads(self._cipher.decrypt(nonce, text, COOKIE.encode())))
        except (ValueError, TypeError, InvalidTag):
            return None

    def write(self, response: web.StreamResponse, session: Session | None) -> None:
        """Give a cookie, or take it away."""
        if session is None:
            response.del_cookie(self._name, path="/", secure=self.is_secure)
            return
        nonce = os.urandom(_NONCE_OCTETS)
        sealed = self._cipher.encrypt(nonce, orjson.dumps(asdict(session)), COOKIE.encode())
        response.set_cookie(
            self._name,
            urlsafe_b64encode(nonce + sealed).decode(),
            path="/",
            httponly=True,
            samesite="Strict",
            secure=self.is_secure,
        )


class Sessions:
    """Logs people in and out, and keeps their tokens fresh."""

    def __init__(self, api: Api, cookies: Cookies) -> None:
        self._api = api
        self.cookies = cookies
        self._renewing: dict[bytes, asyncio.Task[Session | None]] = {}

    async def log_in(
        self, email: str, password: str, *, headers: Mapping[str, str]
    ) -> Session | Answer:
        """Return the session, or what the API says against it; `headers` say whose browser asks."""
        answer = await self._api.call(
            "POST",
            "/v1/auth/login",
            json={"email": email, "password": password},
            headers=headers,
        )
        if not answer.is_well:
            return answer
        tokens = answer.json
        me = await self._api.call(
            "GET", "/v1/users/me", token=tokens["access_token"], headers=headers
        )
        if not me.is_well:
            return me
        return _of_tokens(tokens, email=me.json["email"], role=me.json["role"])

    async def log_out(self, session: Session, *, headers: Mapping[str, str]) -> None:
        """End a session; what cannot be told to the API ends by itself."""
        await self._api.call("POST", "/v1/auth/logout", token=session.access_token, headers=headers)

    async def fresh(self, session: Session, *, headers: Mapping[str, str]) -> Session | None:
        """Return a session whose access token is good; None where it is over.

        Raises ApiError where the API cannot say so now: the session may outlast that.
        """
        now = time.time()
        if session.expires_at - EARLY_S > now:
            return session
        try:
            return await self._exchanged(session, headers)
        except ApiError:
            if session.expires_at > now:
                return session
            raise

    async def _exchanged(self, session: Session, headers: Mapping[str, str]) -> Session | None:
        """Exchange the tokens once, however many requests come with the same."""
        name = hashlib.sha256(session.refresh_token.encode()).digest()
        renewing = self._renewing.get(name)
        if renewing is None:
            renewing = asyncio.create_task(self._renew(session, headers))
            self._renewing[name] = renewing
            renewing.add_done_callback(lambda done: self._keep(name, done))
        return await asyncio.shield(renewing)

    def _keep(self, name: bytes, done: asyncio.Task[Session | None]) -> None:
        """Keep what came of an exchange for a while; where nothing did, the next may try again."""
        if done.cancelled() or done.exception() is not None:
            self._renewing.pop(name, None)
            return
        asyncio.get_running_loop().call_later(RENEWED_KEPT_S, self._renewing.pop, name, None)

    async def _renew(self, session: Session, headers: Mapping[str, str]) -> Session | None:
        """Return the session with new tokens; None where it is over. Raises ApiError."""
        answer = await self._api.call(
            "POST",
            "/v1/auth/refresh",
            json={"refresh_token": session.refresh_token},
            headers=headers,
        )
        if answer.status in _OVER:
            return None
        if not answer.is_well:
            raise ApiError(answer)
        renewed = _of_tokens(answer.json, email=session.email, role=session.role)
        me = await self._api.call(
            "GET", "/v1/users/me", token=renewed.access_token, headers=headers
        )
        if not me.is_well:
            # The old refresh token is spent: without the new one the session would be lost.
            return renewed
        return replace(renewed, email=me.json["email"], role=me.json["role"])


def _of_tokens(tokens: Any, *, email: str, role: str) -> Session:
    return Session(
        email=email,
        role=role,
        access_token=tokens["access_token"],
        refresh_token=tokens["refresh_token"],
        expires_at=time.time() + tokens["expires_in"],
    )
