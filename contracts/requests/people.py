"""What people and their administrators ask for, as pydantic models; pure."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from contracts.people import (
    EMAIL_MAX,
    EMAIL_PATTERN,
    NAME_MAX,
    PASSWORD_MAX,
    PASSWORD_MIN,
    UserStatus,
    normalized_email,
    password_weakness,
)
from contracts.problems import ContractError, FieldError, ProblemCode
from contracts.requests.transaction import validated
from contracts.requests.validators import storable_text
from contracts.scopes import Role

TOKEN_MAX: Final = 200


def _email(value: object) -> str:
    try:
        return normalized_email(storable_text(value))
    except ValueError as error:
        raise PydanticCustomError("email", "{why}", {"why": str(error)}) from None


def _bounded(most: int) -> PlainValidator:
    def check(value: object) -> str:
        text = storable_text(value)
        if not 0 < len(text) <= most:
            raise PydanticCustomError("text", "must have 1 to {most} characters", {"most": most})
        return text

    return PlainValidator(check)


def _text_schema(most: int, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "minLength": 1, "maxLength": most, **more})


Email = Annotated[
    str,
    PlainValidator(_email),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": EMAIL_PATTERN,
            "maxLength": EMAIL_MAX,
            "description": "Compared without regard to case",
            "examples": ["ada@example.com"],
        }
    ),
]
Password = Annotated[str, _bounded(PASSWORD_MAX), _text_schema(PASSWORD_MAX, format="password")]
NewPassword = Annotated[
    str,
    _bounded(PASSWORD_MAX),
    _text_schema(
        PASSWORD_MAX,
        format="password",
        description=(
            f"At least {PASSWORD_MIN} characters of any kind; not one of the most common ones, and "
            "without the address in it"
        ),
    ),
]
PersonName = Annotated[str, _bounded(NAME_MAX), _text_schema(NAME_MAX)]
Token = Annotated[str, _bounded(TOKEN_MAX), _text_schema(TOKEN_MAX)]


def _unnamed() -> Any:
    return None


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Registration(_Request):
    """The body that registers a person."""

    email: Email
    password: NewPassword
    name: PersonName | None = None


class Confirmation(_Request):
    """The body that confirms an address."""

    token: Token = Field(description="From the mail")


class Login(_Request):
    """The body that logs a person in."""

    email: Email
    password: Password


class Refresh(_Request):
    """The body that exchanges a refresh token."""

    refresh_token: Token


class PasswordChange(_Request):
    """The body that changes one's own password."""

    password: Password = Field(description="Today's")
    new_password: NewPassword


class ResetRequest(_Request):
    """The body that asks for a mail by which a password can be set anew."""

    email: Email


class PasswordReset(_Request):
    """The body that sets a password anew."""

    token: Token = Field(description="From the mail")
    password: NewPassword


class Deletion(_Request):
    """The body that deletes one's own account."""

    password: Password


class ProfileChange(_Request):
    """The body that changes one's own account; what it does not name stays."""

    name: PersonName | None = None
    is_mail_wanted: bool = Field(
        default_factory=_unnamed, description="Whether notifications are sent by mail, too"
    )


class UserChange(_Request):
    """The body that changes another's account; what it does not name stays."""

    role: Annotated[Role, Strict(strict=False)] = Field(default_factory=_unnamed)
    status: Annotated[
        UserStatus,
        Strict(strict=False),
        WithJsonSchema({"type": "string", "enum": ["ACTIVE", "DISABLED"]}),
    ] = Field(default_factory=_unnamed)


def profile_change_of(body: object) -> ProfileChange:
    """Return the change of one's own account that a body asks for; raises ContractError."""
    change = validated(ProfileChange, body)
    if not change.model_fields_set:
        raise ContractError.invalid_fields(
            [FieldError("", "name at least one of name, is_mail_wanted")]
        )
    return change


def user_change_of(body: object) -> UserChange:
    """Return the change of an account that a body asks for; raises ContractError."""
    change = validated(UserChange, body)
    if not change.model_fields_set:
        raise ContractError.invalid_fields([FieldError("", "name at least one of role, status")])
    if change.status not in {None, UserStatus.ACTIVE, UserStatus.DISABLED}:
        raise ContractError.invalid_fields([FieldError("/status", "must be ACTIVE or DISABLED")])
    return change


def check_password(password: str, *, email: str, pointer: str) -> None:
    """Raise ContractError for a password that is too weak; `pointer`: where it stands."""
    weakness = password_weakness(password, email=email)
    if weakness is not None:
        raise ContractError(
            ProblemCode.PASSWORD_TOO_WEAK,
            f"{pointer}: {weakness}",
            [FieldError(pointer, weakness)],
        )
