"""Where both doors are: by option, by environment, or by what runs in this directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, SecretStr
from yarl import URL

from cli.failures import UsageError
from cli.invocation import Invocation
from cli.reaching import ClientSettings
from cli.running_state import RunningState
from runtime.service.settings import load_settings


def _amqp(secret: SecretStr) -> SecretStr:
    url = URL(secret.get_secret_value())
    if url.scheme not in ("amqp", "amqps") or not url.host:
        raise ValueError("expected a URL such as amqp://user:password@host:5672/")
    return secret


class DoorSettings(ClientSettings):
    """What reaches both doors as a client."""

    upstream_amqp_url: Annotated[SecretStr, AfterValidator(_amqp)] | None = None


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of both doors, and the key of the HTTP door; None is what is not known."""

    http_url: str | None
    api_key: str | None
    upstream_amqp_url: str | None

    def http(self) -> tuple[str, str]:
        """Return address and key of the HTTP door; raises UsageError without."""
        if not self.http_url:
            raise UsageError(
                "no system runs here (start one: ackledger run); "
                "or name one with --url or ACKLEDGER_URL=http://host:8080"
            )
        if not self.api_key:
            raise UsageError(
                f"no API key for {self.http_url}: give --api-key or ACKLEDGER_API_KEY "
                "(ackledger api-keys create makes one)"
            )
        return self.http_url, self.api_key

    def amqp(self) -> str:
        """Return the address of the AMQP door, with user and password; raises UsageError."""
        if not self.upstream_amqp_url:
            raise UsageError(
                "the upstream user is not known: give --amqp-url or "
                "ACKLEDGER_UPSTREAM_AMQP_URL=amqp://user:password@host:5672/"
            )
        return self.upstream_amqp_url


def addresses_of(invocation: Invocation, options: Mapping[str, str | None]) -> Addresses:
    """Return the addresses; `options` are variables that the command line set, and come first.

    The key of a system that runs here never goes to an address that is not its own.
    """
    given = {name: text for name, text in options.items() if text}
    settings = load_settings(DoorSettings, {**invocation.environment, **given})
    local = RunningState.load(invocation.directory)
    http_url = str(settings.url or local.http_url or "").rstrip("/")
    return Addresses(
        http_url=http_url or None,
        api_key=_open(settings.api_key) or (local.api_key if http_url == local.http_url else None),
        upstream_amqp_url=_open(settings.upstream_amqp_url) or local.upstream_amqp_url,
    )


def _open(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
