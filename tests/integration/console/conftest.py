"""One system with a console for all of these tests."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from contracts.scopes import Role as PersonRole
from ingress.people.token_keys import TokenKeys
from tests.integration.console.browsing import Browser, browsing, logged_in
from tests.integration.ingress.serving import CheckedDoors, open_doors
from tools.stack import Stack
from tools.system import MOVING_MONEY, Instance, Role


@pytest.fixture(scope="package")
async def doors(
    stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CheckedDoors]:
    """A whole system with a console, whose customers may pay in."""
    keys = tmp_path_factory.mktemp("keys")
    TokenKeys(keys).rotate(datetime.now(tz=UTC))
    async with open_doors(
        stack,
        template,
        tmp_path_factory.mktemp("system"),
        instances=(*MOVING_MONEY, Instance(role=Role.NOTIFIER), Instance(role=Role.CONSOLE)),
        settings={
            "ACKLEDGER_TOKEN_KEYS": str(keys),
            "ACKLEDGER_CUSTOMER_DEPOSITS": "true",
            # So short that every request exchanges its tokens first.
            "ACKLEDGER_ACCESS_TOKEN_S": "10",
            "ACKLEDGER_TRUSTED_PROXIES": "127.0.0.1",
            "ACKLEDGER_RATE_LIMITS": "login=none anonymous=none authenticated=none",
            # Redis is shared with other modules, whose people mistyped from this same address.
            "ACKLEDGER_LOGIN_FREE_ATTEMPTS_PER_ADDRESS": "1000000",
            "ACKLEDGER_WEBHOOK_TARGETS": "any",
            "ACKLEDGER_CONSOLE_TRACE_URL": "https://traces.example/trace/{trace_id}?from=console",
            "ACKLEDGER_WALLETS_PER_OWNER_AND_CURRENCY": "2",
        },
    ) as opened:
        yield opened


@pytest.fixture
async def operator(doors: CheckedDoors) -> AsyncIterator[Browser]:
    """An operator's browser."""
    async with browsing(doors) as browser:
        await logged_in(browser, doors, PersonRole.OPERATOR)
        yield browser
