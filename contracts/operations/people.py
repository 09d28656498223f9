"""The calls by which people sign in, and those on their accounts."""

from collections.abc import Mapping
from typing import Any, Final

from contracts.operations import parameters
from contracts.operations.shapes import (
    BODY_PROBLEMS,
    LIST_PROBLEMS,
    OPEN_BODY_PROBLEMS,
    READ_PROBLEMS,
    Operation,
    Response,
    ResponseHeader,
    Tag,
)
from contracts.people import EMAIL_MAX, UserStatus
from contracts.problems import ProblemCode
from contracts.representations import examples
from contracts.representations.people import (
    Acceptance,
    JsonWebKeySet,
    LoginPage,
    NotificationPage,
    SessionPage,
    Tokens,
    User,
    UserPage,
)
from contracts.requests.people import (
    Confirmation,
    Deletion,
    Login,
    PasswordChange,
    PasswordReset,
    ProfileChange,
    Refresh,
    Registration,
    ResetRequest,
    UserChange,
)
from contracts.scopes import Role, Scope

ACCEPTANCE: Final = {"detail": "a mail is on its way, if the address can have one"}
_OPEN: Final = (ProblemCode.SIGN_IN_UNAVAILABLE, *OPEN_BODY_PROBLEMS)
_HASHING: Final = (ProblemCode.SIGN_IN_BUSY,)
_PASSWORD_TRIED: Final = (
    ProblemCode.INVALID_CREDENTIALS,
    ProblemCode.LIMITS_UNAVAILABLE,
    *_HASHING,
)
_ACCEPTED: Final = Response(202, "The same for every address", model=Acceptance, example=ACCEPTANCE)
_CACHED: Final = (ResponseHeader.CACHE_CONTROL,)
_TOKEN: Final = "ack_confirm_x7GdE0m2Yt1a9QJv5bWcR8uN4kZsLhPoIf3TqDyXwMA"  # noqa: S105  # an example
_PASSWORD: Final = "correct horse battery staple"  # noqa: S105  # an example

USER: Final[Mapping[str, Any]] = {
    "id": "019aa3b0-3c1e-7d0a-8001-5b0f0a9c7e21",
    "email": "ada@example.com",
    "name": "Ada",
    "role": "customer",
    "status": "ACTIVE",
    "is_mail_wanted": False,
    "created_at": examples.TRANSACTION["created_at"],
    "confirmed_at": examples.TRANSACTION["created_at"],
    "deleted_at": None,
}
_TOKENS: Final[Mapping[str, Any]] = {
    "access_token": "eyJhbGciOiJFZERTQSIsImtpZCI6IjlmODZkMDgxODg0YzdkNjUifQ.e30.c2ln",
    "token_type": "Bearer",
    "expires_in": 600,
    "refresh_token": "ack_refresh_Zr0bV6oC2nX8mQ1sKd4LwTf7uYhJ9aEiGp3xNvBtRqA",
}
_ADDRESS: Final = {"address": "203.0.113.9", "agent": "Mozilla/5.0"}
_SESSION: Final[Mapping[str, Any]] = {
    "id": "019aa3b0-3c1e-7d0a-8001-5b0f0a9c7e22",
    "created_at": USER["created_at"],
    "last_used_at": USER["created_at"],
    "expires_at": "2026-12-28T12:00:00.000000Z",
    **_ADDRESS,
    "is_current": True,
}
_LOGIN: Final[Mapping[str, Any]] = {
    "id": "019aa3b0-3c1e-7d0a-8001-5b0f0a9c7e23",
    "at": USER["created_at"],
    **_ADDRESS,
    "outcome": "succeeded",
}
_NOTIFICATION: Final[Mapping[str, Any]] = {
    "id": "019aa3b0-3c1e-7d0a-8001-5b0f0a9c7e24",
    "kind": "new_login",
    "at": USER["created_at"],
    "body": {"session_id": _SESSION["id"], **_ADDRESS},
    "read_at": None,
}


def _page(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"items": [item], "next_cursor": None}


def _one(name: str, body: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return {name: {"summary": name.replace("_", " ").capitalize(), "value": body}}


_REGISTER: Final = Operation(
    operation_id="register_user",
    method="POST",
    path="/v1/auth/register",
    tag=Tag.SIGN_IN,
    summary="Register a person",
    description=(
        "A mail brings a token, which confirms the address. The answer and the time that it takes "
        "are the same whether or not the address is known; the mail says which."
    ),
    scope=None,
    request=Registration,
    request_examples=_one("person", {"email": USER["email"], "password": _PASSWORD, "name": "Ada"}),
    responses=(_ACCEPTED,),
    problems=(ProblemCode.PASSWORD_TOO_WEAK, *_HASHING, *_OPEN),
)

_CONFIRM: Final = Operation(
    operation_id="confirm_user",
    method="POST",
    path="/v1/auth/confirm",
    tag=Tag.SIGN_IN,
    summary="Confirm an address",
    description=(
        "With the token of the mail, once. The password is the one that was given with the "
        "registration that sent this mail."
    ),
    scope=None,
    request=Confirmation,
    request_examples=_one("token", {"token": _TOKEN}),
    responses=(Response(200, "The account, which is ACTIVE", model=User, example=USER),),
    problems=(ProblemCode.TOKEN_INVALID, *_OPEN),
)

_LOG_IN: Final = Operation(
    operation_id="log_in",
    method="POST",
    path="/v1/auth/login",
    tag=Tag.SIGN_IN,
    summary="Log in",
    description=(
        "The same refusal for an unknown address, a wrong password, and an account that is not "
        "confirmed or is disabled."
    ),
    scope=None,
    request=Login,
    request_examples=_one("person", {"email": USER["email"], "password": _PASSWORD}),
    responses=(
        Response(200, "Tokens of a new session", model=Tokens, headers=_CACHED, example=_TOKENS),
    ),
    problems=(*_PASSWORD_TRIED, *_OPEN),
)

_REFRESH: Final = Operation(
    operation_id="refresh_tokens",
    method="POST",
    path="/v1/auth/refresh",
    tag=Tag.SIGN_IN,
    summary="Exchange a refresh token",
    description=(
        "Each refresh token is good for one use. One that is used a second time revokes its "
        "session with all tokens of it: somebody else may have it."
    ),
    scope=None,
    request=Refresh,
    request_examples=_one("token", {"refresh_token": _TOKENS["refresh_token"]}),
    responses=(Response(200, "New tokens", model=Tokens, headers=_CACHED, example=_TOKENS),),
    problems=(ProblemCode.TOKEN_INVALID, *_OPEN),
)

_LOG_OUT: Final = Operation(
    operation_id="log_out",
    method="POST",
    path="/v1/auth/logout",
    tag=Tag.SIGN_IN,
    summary="Log out",
    description="Revokes the session of the access token. Takes no body.",
    scope=Scope.PROFILE,
    responses=(Response(204, "The session is revoked"),),
    problems=READ_PROBLEMS,
)

_CHANGE_PASSWORD: Final = Operation(
    operation_id="change_password",
    method="POST",
    path="/v1/auth/password/change",
    tag=Tag.SIGN_IN,
    summary="Change one's own password",
    description="Revokes every other session.",
    scope=Scope.PROFILE,
    request=PasswordChange,
    request_examples=_one(
        "passwords", {"password": _PASSWORD, "new_password": "seven lamps of architecture"}
    ),
    responses=(Response(204, "It is changed"),),
    problems=(ProblemCode.PASSWORD_TOO_WEAK, *_PASSWORD_TRIED, *BODY_PROBLEMS),
)

_FORGOT: Final = Operation(
    operation_id="request_password_reset",
    method="POST",
    path="/v1/auth/password/forgot",
    tag=Tag.SIGN_IN,
    summary="Ask for a mail that resets the password",
    description="The answer and its time are the same whether or not the address is known.",
    scope=None,
    request=ResetRequest,
    request_examples=_one("address", {"email": USER["email"]}),
    responses=(_ACCEPTED,),
    problems=_OPEN,
)

_RESET: Final = Operation(
    operation_id="reset_password",
    method="POST",
    path="/v1/auth/password/reset",
    tag=Tag.SIGN_IN,
    summary="Set a password anew",
    description=(
        "With the token of the mail, once; it confirms the address, too. Revokes every session."
    ),
    scope=None,
    request=PasswordReset,
    request_examples=_one("token", {"token": _TOKEN, "password": _PASSWORD}),
    responses=(Response(204, "It is set"),),
    problems=(
        ProblemCode.TOKEN_INVALID,
        ProblemCode.PASSWORD_TOO_WEAK,
        *_HASHING,
        *_OPEN,
    ),
)

_LIST_SESSIONS: Final = Operation(
    operation_id="list_sessions",
    method="GET",
    path="/v1/auth/sessions",
    tag=Tag.SIGN_IN,
    summary="List one's own sessions",
    description="Those that are still valid, the newest first.",
    scope=Scope.PROFILE,
    parameters=(parameters.CURSOR, parameters.LIMIT),
    responses=(Response(200, "A page", model=SessionPage, example=_page(_SESSION)),),
    problems=LIST_PROBLEMS,
)

_REVOKE_SESSION: Final = Operation(
    operation_id="revoke_session",
    method="DELETE",
    path="/v1/auth/sessions/{session_id}",
    tag=Tag.SIGN_IN,
    summary="Revoke a session of one's own",
    description="Its tokens are refused within a second. Revoking it again changes nothing.",
    scope=Scope.PROFILE,
    parameters=(parameters.path_id("session_id"),),
    responses=(Response(204, "It is revoked"),),
    problems=(ProblemCode.SESSION_NOT_FOUND, *READ_PROBLEMS),
)

_READ_ME: Final = Operation(
    operation_id="read_me",
    method="GET",
    path="/v1/users/me",
    tag=Tag.USERS,
    summary="Read one's own account",
    description="The account that the access token belongs to.",
    scope=Scope.PROFILE,
    responses=(Response(200, "The account", model=User, example=USER),),
    problems=READ_PROBLEMS,
)

_CHANGE_ME: Final = Operation(
    operation_id="change_me",
    method="PATCH",
    path="/v1/users/me",
    tag=Tag.USERS,
    summary="Change one's own account",
    description="What the body does not name stays; a `name` of null takes it away.",
    scope=Scope.PROFILE,
    request=ProfileChange,
    request_examples=_one("mail_wanted", {"is_mail_wanted": True}),
    responses=(Response(200, "The account", model=User, example=USER),),
    problems=BODY_PROBLEMS,
)

_DELETE_ME: Final = Operation(
    operation_id="delete_me",
    method="DELETE",
    path="/v1/users/me",
    tag=Tag.USERS,
    summary="Delete one's own account",
    description=(
        "Needs the password. Refused while a wallet of the person's holds money, or owes some. "
        "Closes the wallets and revokes every session; what was posted stays."
    ),
    scope=Scope.PROFILE,
    request=Deletion,
    request_examples=_one("password", {"password": _PASSWORD}),
    responses=(Response(204, "It is deleted"),),
    problems=(ProblemCode.WALLET_NOT_EMPTY, *_PASSWORD_TRIED, *BODY_PROBLEMS),
)

_LIST_MY_LOGINS: Final = Operation(
    operation_id="list_my_logins",
    method="GET",
    path="/v1/users/me/logins",
    tag=Tag.USERS,
    summary="List attempts to log in to one's own account",
    description="With what became of each, the newest first.",
    scope=Scope.PROFILE,
    parameters=(parameters.CURSOR, parameters.LIMIT),
    responses=(Response(200, "A page", model=LoginPage, example=_page(_LOGIN)),),
    problems=LIST_PROBLEMS,
)

_LIST_MY_NOTIFICATIONS: Final = Operation(
    operation_id="list_my_notifications",
    method="GET",
    path="/v1/users/me/notifications",
    tag=Tag.USERS,
    summary="List one's own notifications",
    description="The newest first.",
    scope=Scope.PROFILE,
    parameters=(parameters.CURSOR, parameters.LIMIT),
    responses=(Response(200, "A page", model=NotificationPage, example=_page(_NOTIFICATION)),),
    problems=LIST_PROBLEMS,
)

_READ_NOTIFICATION: Final = Operation(
    operation_id="mark_notification_read",
    method="POST",
    path="/v1/users/me/notifications/{notification_id}/read",
    tag=Tag.USERS,
    summary="Mark a notification as read",
    description="The first time counts. Takes no body.",
    scope=Scope.PROFILE,
    parameters=(parameters.path_id("notification_id"),),
    responses=(Response(204, "It is read"),),
    problems=(ProblemCode.NOTIFICATION_NOT_FOUND, *READ_PROBLEMS),
)

_LIST_USERS: Final = Operation(
    operation_id="list_users",
    method="GET",
    path="/v1/users",
    tag=Tag.USERS,
    summary="List accounts",
    description=(
        "The newest first. Filters narrow the list together. Deleted accounts are left out unless "
        "`status` asks for them."
    ),
    scope=Scope.USERS_READ,
    parameters=(
        parameters.query(
            "email",
            "Only the account of this address.",
            {"type": "string", "maxLength": EMAIL_MAX},
            "ada@example.com",
        ),
        parameters.query("role", "Only this role.", parameters.enum_schema(Role)),
        parameters.query("status", "Only this status.", parameters.enum_schema(UserStatus)),
        parameters.CURSOR,
        parameters.LIMIT,
    ),
    responses=(Response(200, "A page", model=UserPage, example=_page(USER)),),
    problems=LIST_PROBLEMS,
)

_READ_USER: Final = Operation(
    operation_id="read_user",
    method="GET",
    path="/v1/users/{user_id}",
    tag=Tag.USERS,
    summary="Read an account",
    description="Deleted ones, too.",
    scope=Scope.USERS_READ,
    parameters=(parameters.path_id("user_id"),),
    responses=(Response(200, "The account", model=User, example=USER),),
    problems=(ProblemCode.USER_NOT_FOUND, *READ_PROBLEMS),
)

_CHANGE_USER: Final = Operation(
    operation_id="change_user",
    method="PATCH",
    path="/v1/users/{user_id}",
    tag=Tag.USERS,
    summary="Change the role or the status of an account",
    description=(
        "Felt within a second. Disabling revokes every session. Nobody changes their own role or "
        "status (`not_permitted`); an account that is not confirmed or is deleted cannot be made "
        "ACTIVE (`user_not_changeable`)."
    ),
    scope=Scope.USERS_WRITE,
    parameters=(parameters.path_id("user_id"),),
    request=UserChange,
    request_examples=_one("operator", {"role": "operator"}),
    responses=(Response(200, "The account", model=User, example=USER),),
    problems=(
        ProblemCode.USER_NOT_FOUND,
        ProblemCode.USER_NOT_CHANGEABLE,
        ProblemCode.NOT_PERMITTED,
        *BODY_PROBLEMS,
    ),
)

_READ_TOKEN_KEYS: Final = Operation(
    operation_id="read_token_keys",
    method="GET",
    path="/.well-known/jwks.json",
    tag=Tag.SIGN_IN,
    summary="Read the public keys of access tokens",
    description=(
        "A JSON Web Key Set (RFC 7517). An unknown `kid` in a token means that keys were rotated: "
        "ask again, at most once a minute. Empty where people cannot sign in."
    ),
    scope=None,
    responses=(
        Response(
            200,
            "The keys",
            model=JsonWebKeySet,
            headers=_CACHED,
            example={
                "keys": [
                    {
                        "kty": "OKP",
                        "crv": "Ed25519",
                        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                        "use": "sig",
                        "alg": "EdDSA",
                        "kid": "9f86d081884c7d65",
                    }
                ]
            },
        ),
    ),
    problems=(ProblemCode.INTERNAL_ERROR,),
)

PEOPLE_OPERATIONS: Final = (
    _REGISTER,
    _CONFIRM,
    _LOG_IN,
    _REFRESH,
    _LOG_OUT,
    _CHANGE_PASSWORD,
    _FORGOT,
    _RESET,
    _LIST_SESSIONS,
    _REVOKE_SESSION,
    _READ_ME,
    _CHANGE_ME,
    _DELETE_ME,
    _LIST_MY_LOGINS,
    _LIST_MY_NOTIFICATIONS,
    _READ_NOTIFICATION,
    _LIST_USERS,
    _READ_USER,
    _CHANGE_USER,
    _READ_TOKEN_KEYS,
)
