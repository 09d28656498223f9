"""Access tokens: short-lived JSON Web Tokens (RFC 9068) that say whose session a caller is in.

Everything in a token that anybody could have written is believed only after its signature was
verified by the one algorithm that its issuer uses: ours is EdDSA, and no token chooses another.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import jwt
import structlog

from contracts.people import submitter_of
from contracts.scopes import ROLE_REACH, ROLE_SCOPES, Role, with_implied
from ingress.authentication import FRESH_S, WAITING_MAX, Client, Lookups
from ingress.people.issuers import SKEW_S, STRANGE, Issuers
from ingress.people.sessions import Grant
from ingress.people.token_keys import ALGORITHM, TokenKeys
from runtime.postgres.pool import Pool
from runtime.postgres.queries import load_queries
from runtime.service.batcher import BatcherFullError
from runtime.service.key_directory import SigningKeyError

TOKEN_TYPE: Final = "at+jwt"  # noqa: S105  # a media type
"""By which nothing else that is signed with the same key passes for an access token."""
VERIFIED_MAX: Final = 10_000
_REQUIRED: Final = ("iss", "aud", "exp", "nbf", "iat", "sub", "scope", "sid", "role")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TokenNames:
    """Who issues our tokens, and whom they are for."""

    issuer: str
    audience: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token of ours says."""

    user_id: UUID
    session_id: UUID
    scopes: frozenset[str]
    expires_at: float


class TokenSigner:
    """Issues access tokens."""

    def __init__(self, keys: TokenKeys, names: TokenNames, *, valid_s: float) -> None:
        self._keys = keys
        self._names = names
        self.valid_s = valid_s

    def sign(self, grant: Grant) -> str:
        """Return a token for a session that was started or refreshed; raises SigningKeyError."""
        signer = self._keys.signer()
        now = int(time.time())
        claims = {
            "iss": self._names.issuer,
            "aud": self._names.audience,
            "exp": now + int(self.valid_s),
            "nbf": now,
            "iat": now,
            "sub": str(grant.user_id),
            "sid": str(grant.session_id),
            "scope": " ".join(sorted(ROLE_SCOPES[grant.role])),
            "role": grant.role.value,
        }
        headers = {"kid": signer.key_id, "typ": TOKEN_TYPE}
        return jwt.encode(claims, signer.private_key, algorithm=ALGORITHM, headers=headers)


class AccessTokens(Lookups):
    """Looks up whose an access token is: verified once, its session asked for each second.

    Those of other issuers have no session here: they are believed until they are over.
    """

    def __init__(
        self, pool: Pool, names: TokenNames, *, keys: TokenKeys | None, issuers: Issuers
    ) -> None:
        """`keys` None: there are no tokens of our own."""
        super().__init__()
        self._pool = pool
        self._names = names
        self._keys = keys
        self._issuers = issuers
        self._sql = load_queries("ingress.people")
        self._verified: dict[str, Claims] = {}

    async def run(self) -> None:
        """Look up, and keep the keys of other issuers current, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(super().run())
            group.create_task(self._issuers.run())

    async def _look_up(self, tokens: list[str]) -> Sequence[Client | None]:
        claims = [self._claims_of(token) for token in tokens]
        ids = list({one.session_id for one in claims if one is not None})
        rows = await self._pool.fetch(self._sql["read_sessions"], ids) if ids else []
        sessions = {row["id"]: row for row in rows}
        return [None if one is None else _client_of(one, sessions) for one in claims]

    def _ask(self, token: str) -> "asyncio.Future[Sequence[Client | None]]":
        if not self._issuers.is_foreign(token):
            return super()._ask(token)
        if len(self._under_way) >= WAITING_MAX:
            raise BatcherFullError
        return asyncio.ensure_future(self._look_up_foreign(token))

    async def _look_up_foreign(self, token: str) -> Sequence[Client | None]:
        """Another issuer's keys may have to be asked for: nobody else waits for that."""
        client = await self._issuers.client_of(token)
        self._remember(token, client)
        return [client]

    def _fresh_s(self, token: str, client: Client | None) -> float:
        """A token of ours ends at its second; until then its session is asked for again."""
        claims = self._verified.get(token)
        if claims is None or client is None:
            return FRESH_S
        return min(FRESH_S, claims.expires_at + SKEW_S - time.time())

    def _claims_of(self, token: str) -> Claims | None:
        """Return what a token of ours says; None for one that is over, is forged, or is none."""
        known = self._verified.get(token)
        if known is not None:
            return known if known.expires_at + SKEW_S > time.time() else None
        try:
            claims = self._verify(token)
        except STRANGE:
            return None
        except SigningKeyError as error:
            log.warning("token_keys_unusable", error=str(error))
            return None
        if claims is not None:
            if len(self._verified) >= VERIFIED_MAX:
                self._verified.clear()
            self._verified[token] = claims
        return claims

    def _verify(self, token: str) -> Claims | None:
        header = jwt.get_unverified_header(token)
        if self._keys is None or header.get("typ") != TOKEN_TYPE:
            return None
        key = self._keys.public_keys(datetime.now(UTC)).get(header["kid"])
        if key is None:
            return None
        return _claims(
            jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._names.audience,
                issuer=self._names.issuer,
                leeway=SKEW_S,
                options={"require": list(_REQUIRED)},
            )
        )


def _claims(found: Mapping[str, Any]) -> Claims:
    return Claims(
        user_id=UUID(_text(found, "sub")),
        session_id=UUID(_text(found, "sid")),
        scopes=frozenset(_text(found, "scope").split(" ")),
        expires_at=float(found["exp"]),
    )


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def _client_of(claims: Claims, sessions: Mapping[UUID, Any]) -> Client | None:
    """Return the caller that a token is, with today's role; None without a session."""
    session = sessions.get(claims.session_id)
    if session is None or session["user_id"] != claims.user_id:
        return None
    role = Role(session["role"])
    return Client(
        name=submitter_of(claims.user_id),
        scopes=with_implied(ROLE_SCOPES[role] & claims.scopes),
        reach=ROLE_REACH[role],
        role=role,
        user_id=claims.user_id,
        session_id=claims.session_id,
    )
