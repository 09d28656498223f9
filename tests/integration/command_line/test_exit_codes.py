"""Every expected failure has its exit code and one clear sentence."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.integration.command_line.calling import BOUND_S, CLOSED_PORT, ackledger, environment_of
from tools.stack import Stack

pytestmark = pytest.mark.long

NOWHERE = {
    "DATABASE_URL": f"postgresql://ledger:hidden-word@127.0.0.1:{CLOSED_PORT}/books",
    "AMQP_URL": f"amqp://ledger:hidden-word@127.0.0.1:{CLOSED_PORT}/",
}

NEEDING_DATABASE = [
    ("migrate",),
    ("migrate", "--check"),
    ("verify",),
    ("api-keys", "list"),
    ("reconcile", "--once"),
    ("dead-letters", "list"),
    ("dead-letters", "replay", "--all"),
]


@pytest.mark.parametrize("arguments", NEEDING_DATABASE, ids=" ".join)
async def test_a_missing_url_is_named_with_what_to_do(
    directory: Path, arguments: tuple[str, ...]
) -> None:
    called = await ackledger(*arguments, directory=directory)

    assert called.code == 2
    assert "_URL is not set" in called.err
    assert "ackledger run" in called.err


@pytest.mark.parametrize("arguments", NEEDING_DATABASE, ids=" ".join)
async def test_a_database_that_does_not_answer_is_named_without_its_password(
    directory: Path, arguments: tuple[str, ...]
) -> None:
    called = await ackledger(*arguments, directory=directory, variables=NOWHERE)

    assert called.code == 3
    assert f"PostgreSQL at postgresql://ledger@127.0.0.1:{CLOSED_PORT}/books" in called.err
    assert "connection refused" in called.err
    assert "hidden-word" not in called.err


async def test_a_list_that_is_not_asked_for_does_not_go_on(directory: Path) -> None:
    called = await ackledger("restore", "--to", "latest", "--after", "3", directory=directory)

    assert called.code == 2
    assert "--after goes on with a list of --lost" in called.err


async def test_a_refused_login_counts_as_unreachable(directory: Path, stack: Stack) -> None:
    port = stack.postgres.ports["postgres"]
    url = f"postgresql://nobody:hidden-word@127.0.0.1:{port}/ackledger"

    called = await ackledger("verify", directory=directory, variables={"DATABASE_URL": url})

    assert called.code == 3
    assert "hidden-word" not in called.err


@pytest.mark.parametrize("arguments", [("migrate",), ("reconcile", "--once")], ids=" ".join)
async def test_a_broker_that_does_not_answer_is_named_without_its_password(
    directory: Path, database_url: str, arguments: tuple[str, ...]
) -> None:
    called = await ackledger(
        *arguments, directory=directory, variables={**NOWHERE, "DATABASE_URL": database_url}
    )

    assert called.code == 3
    assert f"RabbitMQ at amqp://ledger@127.0.0.1:{CLOSED_PORT}/" in called.err
    assert "hidden-word" not in called.err


async def test_an_ingress_that_does_not_answer_is_named(directory: Path) -> None:
    address = f"http://127.0.0.1:{CLOSED_PORT}"

    called = await ackledger(
        "show",
        "01a1fdec-fc76-7cb0-8001-aa29c657a02e",
        directory=directory,
        variables={"ACKLEDGER_URL": address, "ACKLEDGER_API_KEY": "ack_any"},
    )

    assert called.code == 3
    assert address in called.err


@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        ("ACKLEDGER_PARTITIONS", "none", "ACKLEDGER_PARTITIONS='none'"),
        ("DATABASE_URL", "books.example/secret", "DATABASE_URL: expected a URL such as"),
        ("AMQP_URL", "redis://:secret@broker.example", "AMQP_URL: expected a URL such as"),
    ],
)
async def test_a_wrong_setting_is_named_and_no_url_is_shown(
    directory: Path, variable: str, value: str, shown: str
) -> None:
    called = await ackledger("migrate", directory=directory, variables={**NOWHERE, variable: value})

    assert called.code == 2
    assert shown in called.err
    assert "secret" not in called.err


@pytest.mark.parametrize("variable", ["ACKLEDGER_HTTP_PORT", "ACKLEDGER_STALE_AFTER_S"])
async def test_run_refuses_a_wrong_setting_of_any_process(
    directory: Path, stack: Stack, variable: str
) -> None:
    called = await ackledger(
        "run", directory=directory, variables={**stack.urls, variable: "never"}
    )

    assert called.code == 2
    assert f"{variable}='never'" in called.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify",),
        ("api-keys", "list"),
        ("dead-letters", "list"),
        ("reconcile", "--once"),
    ],
    ids=" ".join,
)
async def test_a_database_without_tables_is_sent_to_migrate(
    directory: Path, empty_servers: dict[str, str], arguments: tuple[str, ...]
) -> None:
    called = await ackledger(*arguments, directory=directory, variables=empty_servers)

    assert called.code == 2
    assert "run: ackledger migrate" in called.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("migrate", "--nonsense"),
        ("serve", "nonsense"),
        ("submit", "--type", "gift", "--amount", "1", "--currency", "EUR"),
        ("api-keys", "create", "--client", "shop", "--scope", "everything"),
        ("show", "not-an-id"),
        ("dead-letters", "show", "not-an-id"),
        ("dead-letters", "replay"),
        ("dead-letters", "discard", "--all", "--reason", "not_json"),
        ("dead-letters", "list", "--reason", "nonsense"),
        ("reconcile",),
    ],
    ids=" ".join,
)
async def test_wrong_usage_exits_2(directory: Path, arguments: tuple[str, ...]) -> None:
    called = await ackledger(*arguments, directory=directory, variables=NOWHERE)

    assert called.code == 2
    assert called.err != ""
    assert called.out == ""


async def test_a_private_broker_is_never_put_beside_somebody_s_database(stack: Stack) -> None:
    called = await ackledger(
        "migrate",
        directory=stack.directory,
        variables={"DATABASE_URL": NOWHERE["DATABASE_URL"]},
    )

    assert called.code == 2
    assert "AMQP_URL is not set" in called.err


async def test_a_stack_that_runs_here_needs_no_url(stack: Stack) -> None:
    called = await ackledger("stack", "status", "--json", directory=stack.directory)

    assert called.code == 0
    assert {one["name"]: one["url"] for one in called.json["services"]} == {
        service.name: service.url for service in stack.services
    }


async def test_no_stack_here_is_a_finding(directory: Path) -> None:
    called = await ackledger("stack", "status", "--json", directory=directory)

    assert called.code == 1
    assert called.json == {"running": False, "services": []}


WITHOUT_THE_EXTRA = """
import sys
sys.modules["psutil"] = None
from cli.__main__ import main
sys.argv = ["ackledger", *sys.argv[1:]]
sys.exit(main())
"""


@pytest.mark.parametrize("arguments", NEEDING_DATABASE, ids=" ".join)
async def test_an_installation_without_private_servers_has_the_operators_commands(
    directory: Path, arguments: tuple[str, ...]
) -> None:
    code, err = await _python(
        "-c", WITHOUT_THE_EXTRA, *arguments, environment=environment_of(directory, NOWHERE)
    )

    assert code == 3
    assert "PostgreSQL at" in err


@pytest.mark.parametrize("arguments", [("run",), ("stack", "up")], ids=" ".join)
async def test_an_installation_without_private_servers_says_how_to_get_them(
    directory: Path, arguments: tuple[str, ...]
) -> None:
    code, err = await _python(
        "-c", WITHOUT_THE_EXTRA, *arguments, environment=environment_of(directory, NOWHERE)
    )

    assert code == 2
    assert "ackledger[stack]" in err


async def test_help_and_version_import_nothing_heavy(directory: Path) -> None:
    check = (
        "import sys; from cli.command_line import build_app; build_app();"
        "sys.exit(str({'aiohttp', 'aio_pika', 'asyncpg', 'pydantic', 'psutil', 'rich'}"
        " & set(sys.modules)))"
    )
    _, imported = await _python("-c", check, environment=environment_of(directory))

    assert imported.strip() == "set()"
    assert (await ackledger("--help", directory=directory)).code == 0
    assert (await ackledger("--version", directory=directory)).out.startswith("ackledger ")


async def _python(*arguments: str, environment: dict[str, str]) -> tuple[int | None, str]:
    """Run Python and return its exit code and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(BOUND_S):
        _, err = await process.communicate()
    return process.returncode, err.decode()


@pytest.mark.parametrize("process", ["ingress", "processor", "reconciler"])
async def test_production_does_not_start_with_a_published_password_or_without_tls(
    directory: Path, process: str
) -> None:
    published = {
        **NOWHERE,
        "ACKLEDGER_ENV": "production",
        "REDIS_URL": f"redis://127.0.0.1:{CLOSED_PORT}",
        "AMQP_URL": f"amqp://ackledger:ackledger-local@127.0.0.1:{CLOSED_PORT}/",
    }
    plain = {
        **published,
        "AMQP_URL": NOWHERE["AMQP_URL"],
        "DATABASE_URL": "postgresql://ledger:hidden-word@db.example/books",
    }
    known = await ackledger("serve", process, directory=directory, variables=published)
    unverified = await ackledger("serve", process, directory=directory, variables=plain)

    assert (known.code, unverified.code) == (2, 2)
    assert known.err.count("\n") == unverified.err.count("\n") == 1
    assert "AMQP_URL has a password that everybody knows" in known.err
    assert "DATABASE_URL reaches another machine without a verified certificate" in unverified.err
    assert "hidden-word" not in unverified.err
