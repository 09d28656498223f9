"""Access tokens of other issuers: verified by the keys that each publishes (RFC 7517).

A person of another issuer is known by the issuer's name for them, has the role that the
configuration gives to all of that issuer's people, and has no account here.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

import aiohttp
import jwt
import orjson
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from contracts.people import submitter_of
from contracts.scopes import ROLE_REACH, ROLE_SCOPES, Scope
from ingress.authentication import Client
from runtime.service.periodic import is_set_within
from runtime.service.settings import TokenIssuer

FETCH_TIMEOUT_S: Final = 5.0
KEYS_BYTES_MAX: Final = 64 * 1024
KEYS_MAX: Final = 64
FRESH_S: Final = 600.0
"""Keys are asked for again after this long: one that its issuer took back is believed no longer."""
KEPT_S: Final = 86_400.0
"""Keys of an issuer that does not answer are believed this long, and no longer."""
ASKED_AGAIN_S: Final = 60.0
"""A token with an unknown key has the keys asked for again, this often at most."""
SKEW_S: Final = 5.0
"""How far the clocks of two processes may be apart."""
RSA_BITS_MIN: Final = 2048
_REQUIRED: Final = ("iss", "aud", "exp", "sub")
STRANGE: Final = (jwt.PyJWTError, ValueError, TypeError, KeyError, RecursionError, OverflowError)
"""What reading a text that might be a token raises."""
_UNREACHABLE: Final = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
_LONG_AGO: Final = float("-inf")

log = structlog.get_logger()


class Issuers:
    """The issuers that are configured."""

    def __init__(self, issuers: Sequence[TokenIssuer]) -> None:
        self._sources = {one.issuer: KeySource(one) for one in issuers}

    async def run(self) -> None:
        """Ask for keys whenever they are needed, until cancelled."""
        session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S),
            # What is unpacked has no bound.
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )
        async with session, asyncio.TaskGroup() as group:
            for source in self._sources.values():
                group.create_task(source.run(session))

    def is_foreign(self, token: str) -> bool:
        """Whether a token says that it is one of these issuers'; nothing of it is verified."""
        return bool(self._sources) and self._source_of(token) is not None

    async def client_of(self, token: str) -> Client | None:
        """Return the caller that a token is; None for one that is forged, or over."""
        source = self._source_of(token)
        if source is None:
            return None
        try:
            key = await source.key_of(jwt.get_unverified_header(token)["kid"])
            return None if key is None else _client_of(token, key, source.issuer)
        except STRANGE:
            return None

    def _source_of(self, token: str) -> "KeySource | None":
        try:
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
            return self._sources.get(str(issuer))
        except STRANGE:
            return None


class KeySource:
    """One issuer's public keys, by their ids."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self.issuer = issuer
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched_at = _LONG_AGO
        self._asked_at = _LONG_AGO
        self._wanted = asyncio.Event()
        self._answered = asyncio.Event()
        self._answered.set()

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Fetch the keys now, when they are old, and when somebody wants them; until cancelled."""
        while True:
            self._wanted.clear()
            self._answered.clear()
            self._asked_at = time.monotonic()
            try:
                await self._fetch(session)
            finally:
                self._answered.set()
            await is_set_within(self._wanted, FRESH_S)

    async def key_of(self, key_id: str) -> jwt.PyJWK | None:
        """Return a key; one that is not known is asked for, if that was not done just now."""
        now = time.monotonic()
        if key_id not in self._keys and now - self._asked_at >= ASKED_AGAIN_S:
            self._asked_at = now
            self._answered.clear()
            self._wanted.set()
        if key_id not in self._keys:
            await self._answered.wait()
        is_kept = time.monotonic() - self._fetched_at < KEPT_S
        return self._keys.get(key_id) if is_kept else None

    async def _fetch(self, session: aiohttp.ClientSession) -> None:
        try:
            self._keys = keys_in(await self._document(session), self.issuer)
            self._fetched_at = time.monotonic()
        except _UNREACHABLE as error:
            log.warning("issuer_keys_not_read", issuer=self.issuer.issuer, error=repr(error))

    async def _document(self, session: aiohttp.ClientSession) -> bytes:
        async with session.get(self.issuer.jwks_url, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                raise ValueError(f"status {response.status}")
            try:
                await response.content.readexactly(KEYS_BYTES_MAX + 1)
            except asyncio.IncompleteReadError as whole:
                return whole.partial
            raise ValueError(f"more than {KEYS_BYTES_MAX} bytes")


def keys_in(document: bytes, issuer: TokenIssuer) -> Mapping[str, jwt.PyJWK]:
    """Return the usable keys of a JSON Web Key Set; raises ValueError for what is none. Pure."""
    found = orjson.loads(document)
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no JSON Web Key Set")  # noqa: TRY004  # what another server sent
    keys = [_key_of(one, issuer) for one in listed[:KEYS_MAX]]
    return {key.key_id: key for key in keys if key is not None and key.key_id is not None}


def _key_of(one: Any, issuer: TokenIssuer) -> jwt.PyJWK | None:
    """Return a key that may sign this issuer's tokens, None for any other."""
    try:
        key = jwt.PyJWK.from_dict(one)
    except (*STRANGE, AttributeError):
        return None
    is_weak = isinstance(key.key, RSAPublicKey) and key.key.key_size < RSA_BITS_MIN
    if key.public_key_use not in {None, "sig"} or is_weak:
        return None
    return key if key.algorithm_name in issuer.algorithms else None


def _client_of(token: str, key: jwt.PyJWK, issuer: TokenIssuer) -> Client:
    claims = jwt.decode(
        token,
        key,
        algorithms=[key.algorithm_name],
        audience=issuer.audience,
        issuer=issuer.issuer,
        leeway=SKEW_S,
        options={"require": list(_REQUIRED)},
    )
    user_id = foreign_user_id(issuer.issuer, claims["sub"])
    return Client(
        name=submitter_of(user_id),
        # There is no account here that they could read or change.
        scopes=ROLE_SCOPES[issuer.role] - {Scope.PROFILE},
        reach=ROLE_REACH[issuer.role],
        role=issuer.role,
        user_id=user_id,
    )


def foreign_user_id(issuer: str, subject: str) -> UUID:
    """Return the id of another issuer's person: the same for ever."""
    return uuid5(uuid5(NAMESPACE_URL, issuer), subject)
