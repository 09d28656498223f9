"""Where a client command finds the ingress: options, the environment, or what runs here."""

from typing import Final

import typer
from pydantic import HttpUrl, SecretStr

from ackledger.client.asynchronous import AsyncClient
from cli.invocation import invocation_of
from runtime.service.settings import GivenSettings

GIVE_UP_AFTER_S: Final = 5.0
"""A person waits: long enough for a restart of the ingress, short enough to be told."""


class ClientSettings(GivenSettings):
    """What reaches the ingress as a client."""

    url: HttpUrl | None = None
    api_key: SecretStr | None = None


def client_of(context: typer.Context, *, url: str | None, api_key: str | None) -> AsyncClient:
    """Return a client for the given address and key, else those of the environment, else local."""
    from cli.clients.addresses import addresses_of

    options = {"ACKLEDGER_URL": url, "ACKLEDGER_API_KEY": api_key}
    address, key = addresses_of(invocation_of(context), options).http()
    return AsyncClient(address, key, connections=1, give_up_after_s=GIVE_UP_AFTER_S)
