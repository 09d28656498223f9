"""An ingress whose callers are handed in: people, however it is found out who they are."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid4

import pytest

import ingress.__main__ as ingress_process
from contracts.scopes import ROLE_REACH, ROLE_SCOPES, Role, with_implied
from ingress.authentication import ApiKeys, Client
from runtime.postgres.pool import Pool
from runtime.service.settings import IngressSettings, load_settings
from tests.integration.ingress.document import CheckedApi
from tests.integration.ingress.serving import CheckedDoors
from tests.support import eventually


class HandedIn(ApiKeys):
    """Knows some callers by their tokens, beside those that have keys."""

    def __init__(self, pool: Pool, *, callers: Mapping[str, Client]) -> None:
        super().__init__(pool)
        self._callers = callers

    def known(self, token: str | None) -> Client | None:
        return self._callers.get(token or "") or super().known(token)


def person(role: Role, user_id: UUID) -> Client:
    """Return a person as a caller."""
    return Client(
        name=f"user:{user_id}",
        scopes=with_implied(ROLE_SCOPES[role]),
        reach=ROLE_REACH[role],
        role=role,
        user_id=user_id,
        session_id=uuid4(),
    )


@dataclass(frozen=True)
class PeoplesDoor:
    """An ingress, and the callers that it knows: add to them."""

    url: str
    callers: dict[str, Client]

    def come_in(self, role: Role, user_id: UUID | None = None) -> CheckedApi:
        """Return a client for a person; enter it."""
        token = uuid4().hex
        self.callers[token] = person(role, user_id or uuid4())
        return CheckedApi(self.url, token)


@asynccontextmanager
async def peoples_door(doors: CheckedDoors, **settings: str) -> AsyncIterator[PeoplesDoor]:
    """Serve beside the ingress of the doors, on the same database and broker."""
    port = _free_port()
    callers: dict[str, Client] = {}
    environment = {
        "DATABASE_URL": doors.database_url,
        "AMQP_URL": doors.amqp_url,
        "REDIS_URL": doors.stack.redis.url,
        "ACKLEDGER_HTTP_PORT": str(port),
        "ACKLEDGER_STATUS_PORT": "0",
        **settings,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingress_process, "ApiKeys", partial(HandedIn, callers=callers))
        serving = asyncio.create_task(
            ingress_process.serve(load_settings(IngressSettings, environment))
        )
        try:
            async with CheckedApi(f"http://127.0.0.1:{port}", None) as api:

                async def is_up() -> bool:
                    assert not serving.done(), serving
                    with suppress(OSError):
                        return (await api.get("/readyz")).status == 200
                    return False

                await eventually(is_up, what="the ingress is ready")
            yield PeoplesDoor(f"http://127.0.0.1:{port}", callers)
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().remove_signal_handler(number)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
