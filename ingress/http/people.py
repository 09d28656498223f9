"""The calls by which people sign in, and those on their accounts."""

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import orjson
from aiohttp import web

from contracts.operations.people import ACCEPTANCE
from contracts.people import UserStatus, normalized_email
from contracts.problems import ContractError, ProblemCode
from contracts.representations.people import (
    render_login,
    render_notification,
    render_session,
    render_user,
)
from contracts.requests.people import (
    Confirmation,
    Deletion,
    Login,
    PasswordChange,
    PasswordReset,
    Refresh,
    Registration,
    ResetRequest,
    check_password,
    profile_change_of,
    user_change_of,
)
from contracts.requests.transaction import validated
from contracts.scopes import Role
from ingress.http.middleware import Call, Handler, json_response, page_response
from ingress.limits.login_guard import LoginGuard
from ingress.parsing import uuid_of
from ingress.people.accounts import AccountStore, Origin
from ingress.people.passwords import Passwords
from ingress.people.profiles import LAST_ID, ProfileStore, UserFilter
from ingress.people.sessions import Grant, Own, SessionStore
from runtime.service.key_directory import SigningKeyError

if TYPE_CHECKING:
    # With what verifies signatures: 25 ms that an ingress without tokens does not spend.
    from ingress.people.access_tokens import TokenSigner
    from ingress.people.token_keys import TokenKeys

ANSWER_AFTER_S: Final = 0.1
"""What may not tell whether an address is known is answered after this time, and not before."""
KEYS_CACHED_S: Final = 300
_NOT_STORED: Final = {"Cache-Control": "no-store"}


class SignInCalls:
    """Register, confirm, log in and out, refresh, and set passwords."""

    def __init__(
        self,
        *,
        accounts: AccountStore,
        sessions: SessionStore,
        passwords: Passwords,
        guard: LoginGuard,
        signer: "TokenSigner | None",
        keys: "TokenKeys | None",
    ) -> None:
        """`signer` and `keys` None: there are no accounts of people here."""
        self._accounts = accounts
        self._sessions = sessions
        self._passwords = passwords
        self._guard = guard
        self._signer = signer
        self._keys = keys

    def open_handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the calls that anybody may make."""
        calls = {
            "register_user": self.register,
            "confirm_user": self.confirm,
            "log_in": self.log_in,
            "refresh_tokens": self.refresh,
            "request_password_reset": self.request_reset,
            "reset_password": self.reset_password,
        }
        return {name: self._where_people_sign_in(call) for name, call in calls.items()}

    def guarded_handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the calls of those who are logged in."""
        return {
            "log_out": self.log_out,
            "change_password": self.change_password,
            "list_sessions": self.list_sessions,
            "revoke_session": self.revoke_session,
        }

    async def register(self, call: Call) -> web.Response:
        """POST /v1/auth/register."""
        started = time.monotonic()
        wanted = validated(Registration, await call.json())
        check_password(wanted.password, email=wanted.email, pointer="/password")
        password_hash = await self._passwords.hash(wanted.password)
        await self._accounts.register(wanted.email, password_hash=password_hash, name=wanted.name)
        return await _accepted(started)

    async def confirm(self, call: Call) -> web.Response:
        """POST /v1/auth/confirm."""
        wanted = validated(Confirmation, await call.json())
        user = await self._accounts.confirm(wanted.token, origin_of(call))
        return json_response(render_user(user))

    async def log_in(self, call: Call) -> web.Response:
        """POST /v1/auth/login."""
        wanted = validated(Login, await call.json())
        await self._guard.before(wanted.email, call.address)
        grant = await self._sessions.log_in(wanted.email, wanted.password, origin_of(call))
        if grant is None:
            await self._guard.failed(wanted.email, call.address)
            raise _invalid_credentials()
        await self._guard.succeeded(wanted.email, call.address)
        return self._granted(grant)

    async def refresh(self, call: Call) -> web.Response:
        """POST /v1/auth/refresh."""
        wanted = validated(Refresh, await call.json())
        return self._granted(await self._sessions.refresh(wanted.refresh_token, origin_of(call)))

    async def log_out(self, call: Call) -> web.Response:
        """POST /v1/auth/logout."""
        await self._sessions.revoke(_session_id(call), user_id=_user_id(call))
        return web.Response(status=204)

    async def change_password(self, call: Call) -> web.Response:
        """POST /v1/auth/password/change."""
        wanted = validated(PasswordChange, await call.json())
        user = await self._accounts.read_credentials(_user_id(call))
        if not await _is_own_password(call, user, wanted.password, self._passwords, self._guard):
            raise _invalid_credentials()
        check_password(wanted.new_password, email=user["email"], pointer="/new_password")
        is_changed = await self._accounts.change_password(
            user["id"],
            known_hash=user["password_hash"],
            password_hash=await self._passwords.hash(wanted.new_password),
            kept=_session_id(call),
            origin=origin_of(call),
        )
        if not is_changed:
            raise _invalid_credentials()
        return web.Response(status=204)

    async def request_reset(self, call: Call) -> web.Response:
        """POST /v1/auth/password/forgot."""
        started = time.monotonic()
        wanted = validated(ResetRequest, await call.json())
        await self._accounts.request_reset(wanted.email)
        return await _accepted(started)

    async def reset_password(self, call: Call) -> web.Response:
        """POST /v1/auth/password/reset."""
        wanted = validated(PasswordReset, await call.json())
        email = await self._accounts.email_of_reset(wanted.token)
        check_password(wanted.password, email=email, pointer="/password")
        password_hash = await self._passwords.hash(wanted.password)
        await self._accounts.reset_password(
            wanted.token, password_hash=password_hash, origin=origin_of(call)
        )
        return web.Response(status=204)

    async def list_sessions(self, call: Call) -> web.Response:
        """GET /v1/auth/sessions."""
        current_id = call.client.session_id
        return await own_page(
            call,
            self._sessions,
            Own.SESSIONS,
            lambda row: render_session(row, current_id=current_id),
        )

    async def revoke_session(self, call: Call) -> web.Response:
        """DELETE /v1/auth/sessions/{session_id}."""
        session_id = uuid_of("session_id", call.request.match_info["session_id"])
        if not await self._sessions.revoke(session_id, user_id=_user_id(call)):
            raise ContractError(ProblemCode.SESSION_NOT_FOUND, f"you have no session {session_id}")
        return web.Response(status=204)

    async def read_keys(self, _: web.Request) -> web.Response:
        """GET /.well-known/jwks.json."""
        published = {"keys": []} if self._keys is None else self._keys.published(datetime.now(UTC))
        return json_response(
            published, headers={"Cache-Control": f"public, max-age={KEYS_CACHED_S}"}
        )

    def _where_people_sign_in(self, handler: Handler) -> Handler:
        """Return a handler that refuses where there are no accounts of people."""

        async def respond(call: Call) -> web.StreamResponse:
            if self._signer is None:
                raise _unavailable()
            return await handler(call)

        return respond

    def _granted(self, grant: Grant) -> web.Response:
        if self._signer is None:
            raise _unavailable()
        try:
            token = self._signer.sign(grant)
        except SigningKeyError:
            raise _unavailable() from None
        body = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": int(self._signer.valid_s),
            "refresh_token": grant.refresh_token,
        }
        return json_response(body, headers=_NOT_STORED)


class UserCalls:
    """A person's own account, and everybody's for administrators."""

    def __init__(
        self,
        *,
        accounts: AccountStore,
        profiles: ProfileStore,
        sessions: SessionStore,
        passwords: Passwords,
        guard: LoginGuard,
    ) -> None:
        self._accounts = accounts
        self._profiles = profiles
        self._sessions = sessions
        self._passwords = passwords
        self._guard = guard

    def guarded_handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of these calls."""
        return {
            "read_me": self.read_me,
            "change_me": self.change_me,
            "delete_me": self.delete_me,
            "list_my_logins": self.list_my_logins,
            "list_my_notifications": self.list_my_notifications,
            "mark_notification_read": self.mark_notification_read,
            "list_users": self.list_page,
            "read_user": self.read,
            "change_user": self.change,
        }

    async def read_me(self, call: Call) -> web.Response:
        """GET /v1/users/me."""
        return json_response(render_user(_own(await self._profiles.read(_user_id(call)))))

    async def change_me(self, call: Call) -> web.Response:
        """PATCH /v1/users/me."""
        change = profile_change_of(await call.json())
        user = await self._profiles.change_own(_user_id(call), change)
        return json_response(render_user(_own(user)))

    async def delete_me(self, call: Call) -> web.Response:
        """DELETE /v1/users/me."""
        wanted = validated(Deletion, await call.json())
        user = await self._accounts.read_credentials(_user_id(call))
        is_right = await _is_own_password(call, user, wanted.password, self._passwords, self._guard)
        if not is_right or not await self._accounts.delete(
            user["id"], known_hash=user["password_hash"], origin=origin_of(call)
        ):
            raise _invalid_credentials()
        return web.Response(status=204)

    async def list_my_logins(self, call: Call) -> web.Response:
        """GET /v1/users/me/logins."""
        return await own_page(call, self._sessions, Own.LOGINS, render_login)

    async def list_my_notifications(self, call: Call) -> web.Response:
        """GET /v1/users/me/notifications."""
        return await own_page(call, self._sessions, Own.NOTIFICATIONS, render_notification)

    async def mark_notification_read(self, call: Call) -> web.Response:
        """POST /v1/users/me/notifications/{notification_id}/read."""
        wanted = uuid_of("notification_id", call.request.match_info["notification_id"])
        if not await self._sessions.mark_read(wanted, user_id=_user_id(call)):
            raise ContractError(
                ProblemCode.NOTIFICATION_NOT_FOUND, f"you have no notification {wanted}"
            )
        return web.Response(status=204)

    async def list_page(self, call: Call) -> web.Response:
        """GET /v1/users."""
        query = call.query
        wanted = UserFilter(
            email=_email(query.text("email")),
            role=query.word("role", Role),
            status=query.word("status", UserStatus),
        )
        rows, following = await self._profiles.list_page(
            wanted, before=query.id_position("users") or LAST_ID, limit=query.limit()
        )
        items = [render_user(row) for row in rows]
        return page_response(items, query.cursor("users", following))

    async def read(self, call: Call) -> web.Response:
        """GET /v1/users/{user_id}."""
        user_id = _asked_for(call)
        user = await self._profiles.read(user_id)
        if user is None:
            raise _not_found(user_id)
        return json_response(render_user(user))

    async def change(self, call: Call) -> web.Response:
        """PATCH /v1/users/{user_id}."""
        user_id = _asked_for(call)
        change = user_change_of(await call.json())
        if user_id == call.client.user_id:
            raise ContractError(
                ProblemCode.NOT_PERMITTED, "nobody changes their own role or status"
            )
        user = await self._profiles.change(
            user_id, change, actor=call.client.name, origin=origin_of(call)
        )
        if user is None:
            raise _not_found(user_id)
        return json_response(render_user(user))


async def _is_own_password(
    call: Call, user: Any, password: str, passwords: Passwords, guard: LoginGuard
) -> bool:
    """Whether it is a user's password: tries by whoever has an access token are slowed too."""
    await guard.before(user["email"], call.address)
    is_right = await passwords.verify(user["password_hash"], password)
    if is_right:
        await guard.succeeded(user["email"], call.address)
    else:
        await guard.failed(user["email"], call.address)
    return is_right


def origin_of(call: Call) -> Origin:
    """Return where a call came from."""
    return Origin(address=call.address, agent=call.agent, request_id=call.request_id)


async def own_page(
    call: Call, sessions: SessionStore, listing: Own, render: Callable[[Any], Mapping[str, Any]]
) -> web.Response:
    """Return a page of the caller's own: sessions, logins or notifications."""
    query, user_id = call.query, _user_id(call)
    place = f"{listing}:{user_id}"
    rows, following = await sessions.list_page(
        listing,
        user_id,
        before=query.id_position(place) or LAST_ID,
        limit=query.limit(),
    )
    return page_response([render(row) for row in rows], query.cursor(place, following))


async def _accepted(started: float) -> web.Response:
    """Return the same answer for every address, at the same time after `started` (monotonic)."""
    await asyncio.sleep(started + ANSWER_AFTER_S - time.monotonic())
    return web.Response(body=orjson.dumps(ACCEPTANCE), status=202, content_type="application/json")


def _user_id(call: Call) -> UUID:
    """Return whose account the call is about; raises ContractError for a system's key."""
    if call.client.user_id is None:
        raise ContractError(ProblemCode.INSUFFICIENT_SCOPE, "this call is for people")
    return call.client.user_id


def _session_id(call: Call) -> UUID:
    if call.client.session_id is None:
        raise ContractError(ProblemCode.INSUFFICIENT_SCOPE, "this call needs a session")
    return call.client.session_id


def _asked_for(call: Call) -> UUID:
    return uuid_of("user_id", call.request.match_info["user_id"])


def _email(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return normalized_email(text)
    except ValueError as error:
        raise ContractError(ProblemCode.INVALID_PARAMETER, f"email: {error}") from None


def _own(user: Any) -> Any:
    if user is None:
        raise ContractError(ProblemCode.UNAUTHENTICATED, "the account is not ACTIVE any more")
    return user


def _not_found(user_id: UUID) -> ContractError:
    return ContractError(ProblemCode.USER_NOT_FOUND, f"there is no user {user_id}")


def _invalid_credentials() -> ContractError:
    return ContractError(ProblemCode.INVALID_CREDENTIALS, "the address or the password is wrong")


def _unavailable() -> ContractError:
    return ContractError(
        ProblemCode.SIGN_IN_UNAVAILABLE, "this server has no keys for access tokens"
    )
