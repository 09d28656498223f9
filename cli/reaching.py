"""Where a client command finds the ingress: options, the environment, or what runs here."""

from typing import Any, Final

import typer
from pydantic import HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from cli.clients.http import Answer, ApiClient
from cli.escaping import printable
from cli.failures import CommandError, RefusedError, UsageError
from cli.invocation import invocation_of
from runtime.service.settings import PREFIX

GIVE_UP_AFTER_S: Final = 5.0
"""A person waits: long enough for a restart of the ingress, short enough to be told."""

_ERROR: Final = 400
# Problems that only another call or another key mends; any other is a refusal as things stand.
_WRONG_USE: Final = frozenset(
    {
        "malformed_json",
        "validation_failed",
        "invalid_parameter",
        "idempotency_key_missing",
        "idempotency_key_invalid",
        "unauthenticated",
        "insufficient_scope",
    }
)


class ClientSettings(BaseSettings):
    """What reaches the ingress as a client."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    url: HttpUrl | None = None
    api_key: SecretStr | None = None


def client_of(context: typer.Context, *, url: str | None, api_key: str | None) -> ApiClient:
    """Return a client for the given address and key, else those of the environment, else local."""
    from cli.clients.addresses import addresses_of

    options = {"ACKLEDGER_URL": url, "ACKLEDGER_API_KEY": api_key}
    address, key = addresses_of(invocation_of(context), options).http()
    return ApiClient(address, key, connections=1, give_up_after_s=GIVE_UP_AFTER_S)


def failure_of(answer: Answer) -> CommandError | None:
    """Return the failure that a problem means for the command; None when it is no problem."""
    if answer.status < _ERROR:
        return None
    problem: dict[str, Any] = answer.body if isinstance(answer.body, dict) else {}
    code = str(problem.get("code", f"HTTP {answer.status}"))
    reason = problem.get("detail") or problem.get("title") or answer.body
    lines = [printable(f"{code}: {reason}")]
    errors = problem.get("errors", [])
    if len(errors) > 1:
        lines += [printable(f"  {one.get('pointer')}: {one.get('detail')}") for one in errors]
    kind = UsageError if code in _WRONG_USE else RefusedError
    return kind("\n".join(lines))
