"""People, their sessions and what they are told, as JSON; pure."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, Field

from contracts.people import LoginOutcome, UserStatus
from contracts.representations.pages import NextCursor
from contracts.representations.transaction import Json, Row, Timestamp, format_moment
from contracts.scopes import Role

Address = Annotated[str | None, Field(description="Where the request came from")]
Agent = Annotated[str | None, Field(description="What the program called itself")]
AGENT_MAX: Final = 256


class Acceptance(BaseModel):
    """The same for every address: a mail says the rest to whoever it belongs to."""

    detail: str


class Tokens(BaseModel):
    """What lets a person in."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int = Field(description="Seconds until the access token is over")
    refresh_token: str = Field(description="Good for one use; its answer has the next one")


class User(BaseModel):
    """A person's account."""

    id: UUID
    email: str
    name: str | None
    role: Role
    status: UserStatus
    is_mail_wanted: bool
    created_at: Timestamp
    confirmed_at: Timestamp | None
    deleted_at: Timestamp | None


class UserPage(BaseModel):
    """Accounts, the newest first."""

    items: list[User]
    next_cursor: NextCursor


class Session(BaseModel):
    """A login that is still valid."""

    id: UUID
    created_at: Timestamp
    last_used_at: Timestamp = Field(description="When tokens were last issued in it")
    expires_at: Timestamp
    address: Address
    agent: Agent
    is_current: bool = Field(description="Whether it is the one of this call")


class SessionPage(BaseModel):
    """Sessions, the newest first."""

    items: list[Session]
    next_cursor: NextCursor


class LoginAttempt(BaseModel):
    """One attempt to log in."""

    id: UUID
    at: Timestamp
    address: Address
    agent: Agent
    outcome: LoginOutcome


class LoginPage(BaseModel):
    """Attempts to log in, the newest first."""

    items: list[LoginAttempt]
    next_cursor: NextCursor


class Notification(BaseModel):
    """Something that a person was told."""

    id: UUID
    kind: str = Field(description="`new_login`, `money_in`, `money_out`; more may come")
    at: Timestamp
    body: dict[str, Any]
    read_at: Timestamp | None


class NotificationPage(BaseModel):
    """Notifications, the newest first."""

    items: list[Notification]
    next_cursor: NextCursor


class JsonWebKey(BaseModel):
    """A public key (RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    use: Literal["sig"]
    alg: Literal["EdDSA"]
    kid: str


class JsonWebKeySet(BaseModel):
    """The public keys of access tokens."""

    keys: list[JsonWebKey]


def render_user(row: Row) -> Json:
    """Return a user's row as `User` has it."""
    return {
        "id": str(row["id"]),
        "email": row["email"],
        "name": row["name"],
        "role": row["role"],
        "status": row["status"],
        "is_mail_wanted": row["is_mail_wanted"],
        "created_at": format_moment(row["created_at"]),
        "confirmed_at": _moment_or_null(row["confirmed_at"]),
        "deleted_at": _moment_or_null(row["deleted_at"]),
    }


def render_session(row: Row, *, current_id: UUID | None) -> Json:
    """Return a session's row as `Session` has it."""
    return {
        "id": str(row["id"]),
        "created_at": format_moment(row["created_at"]),
        "last_used_at": format_moment(row["last_used_at"]),
        "expires_at": format_moment(row["expires_at"]),
        "address": row["address"],
        "agent": row["agent"],
        "is_current": row["id"] == current_id,
    }


def render_login(row: Row) -> Json:
    """Return a row of the login log as `LoginAttempt` has it."""
    return {
        "id": str(row["id"]),
        "at": format_moment(row["at"]),
        "address": row["address"],
        "agent": row["agent"],
        "outcome": row["outcome"],
    }


def render_notification(row: Row) -> Json:
    """Return a notification's row as `Notification` has it."""
    return {
        "id": str(row["id"]),
        "kind": row["kind"],
        "at": format_moment(row["at"]),
        "body": orjson.loads(row["body"]),
        "read_at": _moment_or_null(row["read_at"]),
    }


def _moment_or_null(value: Any) -> str | None:
    return None if value is None else format_moment(value)
