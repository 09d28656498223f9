"""Secrets sent through every path that fails: no log, answer, metric or process list tells one."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import orjson
import psutil
import pytest
from yarl import URL

from cli.launching import command_of, with_our_code
from runtime.postgres.pool import connect
from tests.end_to_end.conftest import INSTANCES, Plant
from tests.support import Api, deposit, eventually, requested
from tools.system import Instance, Role, System

pytestmark = pytest.mark.long

_COOKIE: Final = "c00kie-kept-by-nobody"
_DESCRIPTION: Final = "a-description-that-is-nobodys-business"
_PASSWORD: Final = "pass-w0rd-told-to-nobody"
_CLOSED_PORT: Final = 1

_MALFORMED: Final = {
    "lines that end in LF alone": (
        b"POST /v1/wallets HTTP/1.1\nHost: x\nAuthorization: Bearer %b\nContent-Length: 2\n\n{}"
    ),
    "a space before the colon": b"GET /v1/wallets HTTP/1.1\r\nAuthorization : Bearer %b\r\n\r\n",
    "a folded line": b"GET /v1/wallets HTTP/1.1\r\nAuthorization: Bearer\r\n %b\r\n\r\n",
    "gzip that is none": (
        b"POST /v1/transactions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
        b"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nxxxx"
    ),
    "a control character": (
        b"GET /v1/wallets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\x0c\r\n\r\n"
    ),
    "an early header": b"GET * HTTP/1.1\r\nAuthorization: Bearer %b\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost: x\r\nBearer %b\r\n\r\n",
    "a method that is none": b"%b / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a version that is none": b"GET / %b\r\nHost: x\r\n\r\n",
    "a length that is none": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n",
    "chunks that are none": (
        b"POST /v1/wallets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n"
    ),
    "a header that is too long": (
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b" + b"x" * 20_000 + b"\r\n\r\n"
    ),
    "a key in the path": b"GET /v1/wallets/%b?access_token=%b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a key as the request's id": (
        b"GET /v1/wallets HTTP/1.1\r\nHost: x\r\nX-Request-Id: %b\r\nCookie: s=%c\r\n\r\n"
    ),
}


async def _sent(url: str, request: bytes) -> bytes:
    """Send octets and return the answer, up to the end or the half of a second without more."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request)
    answer = b""
    # A head that is a beginning only is not answered.
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(0.5):
            while got := await reader.read(65536):
                answer += got
    writer.close()
    return answer


def _filled(request: bytes, key: str) -> bytes:
    return request.replace(b"%b", key.encode()).replace(b"%c", _COOKIE.encode())


def _logs(plant: Plant) -> dict[str, str]:
    """Return what every process of ours and every server has logged."""
    ours = {one.label: plant.system.log(one.label) for one in INSTANCES}
    servers = {path.name: path for path in (plant.stack.directory / "logs").glob("*.log")}
    return {name: path.read_text(errors="replace") for name, path in {**ours, **servers}.items()}


async def _metrics_and_readiness(plant: Plant) -> str:
    texts = []
    for url in plant.system.status_urls.values():
        async with Api(url, None) as process:
            texts += [(await process.get(path)).body.decode() for path in ("/metrics", "/readyz")]
    return "\n".join(texts)


async def _audit_rows(plant: Plant) -> str:
    connection = await connect(plant.database_url, name="test")
    rows = await connection.fetch("SELECT audit_log::text AS row FROM audit_log")
    await connection.close()
    return "\n".join(row["row"] for row in rows)


def _command_lines() -> str:
    """Return every command line on this machine, as any user of it may read them."""
    texts = []
    for pid in psutil.pids():
        try:
            texts.append(Path(f"/proc/{pid}/cmdline").read_text(errors="replace"))
        except OSError:
            continue
    return "\n".join(texts)


def _passwords(plant: Plant) -> set[str]:
    urls = (*plant.stack.urls.values(), plant.stack.rabbitmq.management_url or "")
    return {password for url in urls if (password := URL(url).password)}


async def _told(plant: Plant, *secrets: str) -> list[tuple[str, str]]:
    """Return which secret stands where."""
    places = {
        **_logs(plant),
        "audit rows": await _audit_rows(plant),
        "metrics and readiness": await _metrics_and_readiness(plant),
        "process list": _command_lines(),
    }
    return [(name, one) for name, text in places.items() for one in secrets if one in text]


def _errors_of(plant: Plant, name: str) -> list[str]:
    lines = plant.system.log(name).read_text().splitlines()
    return [line for line in lines if orjson.loads(line)["level"] in {"error", "critical"}]


async def _count(plant: Plant, name: str) -> float:
    async with Api(plant.system.status_urls["ingress"], None) as process:
        lines = (await process.get("/metrics")).body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


async def test_no_malformed_request_puts_a_key_into_a_log_or_is_an_error(plant: Plant) -> None:
    key = plant.system.api_key
    errors, counted = _errors_of(plant, "ingress"), await _count(plant, "ackledger_http_malformed")
    ports = (plant.system.http_url, *plant.system.status_urls.values())
    for request in _MALFORMED.values():
        for url in ports:
            await _sent(url, _filled(request, key))

    async def are_counted() -> bool:
        return await _count(plant, "ackledger_http_malformed") >= counted + 8

    await eventually(are_counted, what="malformed requests are counted")
    assert await _told(plant, key, key[4:24], _COOKIE) == []
    assert _errors_of(plant, "ingress") == errors


async def test_nobody_without_a_key_can_flood_the_log(plant: Plant) -> None:
    log = plant.system.log("ingress")
    before = log.stat().st_size
    request = _filled(_MALFORMED["a control character"], "ack_" + "x" * 43)

    async def send_many() -> None:
        for _ in range(50):
            await _sent(plant.system.http_url, request)

    await asyncio.gather(*(send_many() for _ in range(10)))

    # The plant logs at level debug: at info it were none at all.
    assert log.stat().st_size - before < 500 * 100


@asynccontextmanager
async def _refusing(database_url: str) -> AsyncIterator[None]:
    """Let the database refuse a row for its description, which no check of ours foresees."""
    connection = await connect(database_url, name="test")
    await connection.execute(
        "ALTER TABLE transactions ADD CONSTRAINT refusing"
        f" CHECK (description IS DISTINCT FROM '{_DESCRIPTION}') NOT VALID"
    )
    try:
        yield
    finally:
        await connection.execute("ALTER TABLE transactions DROP CONSTRAINT refusing")
        await connection.close()


async def test_an_error_of_the_database_does_not_tell_what_a_client_sent(plant: Plant) -> None:
    key = plant.system.api_key
    wallet = await plant.api.create_wallet()
    body = {**deposit(wallet, "1.00"), "description": _DESCRIPTION}
    errors = _errors_of(plant, "ingress")
    async with _refusing(plant.database_url):
        answer = await plant.api.submit(body, wait=None)
        async with plant.upstream() as upstream:
            await upstream.publish(requested(body))

            async def is_met() -> bool:
                return "CheckViolation" in plant.system.log("processor").read_text() + (
                    plant.system.log("standby").read_text()
                )

            await eventually(is_met, what="the processor meets the constraint")

    assert answer.status == 500
    assert _DESCRIPTION.encode() not in answer.body
    [failure] = _errors_of(plant, "ingress")[len(errors) :]
    assert "CheckViolationError" in failure
    told = await _told(plant, key, _DESCRIPTION)
    # PostgreSQL's own log quotes the row: it is as private as the tables are.
    assert [place for place, _ in told if place != "postgres.log"] == []
    assert await _told(plant, *_passwords(plant)) == []


_WRONG: Final[Mapping[str, tuple[str, str]]] = {
    "a wrong password for RabbitMQ": ("AMQP_URL", "password"),
    "a wrong password for PostgreSQL": ("DATABASE_URL", "password"),
    "nobody at RabbitMQ's address": ("AMQP_URL", "port"),
    "nobody at PostgreSQL's address": ("DATABASE_URL", "port"),
    "a URL that is none": ("AMQP_URL", "broken"),
}


def _wrong(url: str, how: str) -> str:
    wrong = URL(url).with_password(_PASSWORD)
    if how == "port":
        return str(wrong.with_port(_CLOSED_PORT))
    return str(wrong) if how == "password" else f"amqp://ledger:{_PASSWORD}@host:none/"


@pytest.mark.parametrize("role", ["ingress", "processor", "reconciler"])
async def test_no_process_tells_the_password_that_was_refused(
    plant: Plant, tmp_path: Path, role: str
) -> None:
    outputs: dict[str, str] = {}
    for name, (variable, how) in _WRONG.items():
        wrong = {variable: _wrong(plant.stack.urls[variable], how)}
        outputs[name] = await _complaint(role, {**plant.stack.urls, **wrong}, tmp_path)

    assert [name for name, text in outputs.items() if _PASSWORD in text] == []
    for password in _passwords(plant):
        assert [name for name, text in outputs.items() if password in text] == []
    assert "AMQP_URL: not a URL" in outputs["a URL that is none"]
    assert "broker_lost" in outputs["nobody at RabbitMQ's address"]


async def _complaint(role: str, urls: Mapping[str, str], directory: Path) -> str:
    """Return what a process writes up to its first complaint, and on its way to the end."""
    environment = {
        "PATH": os.environ["PATH"],
        "ACKLEDGER_STATUS_PORT": "0",
        "ACKLEDGER_HTTP_PORT": "0",
        "ACKLEDGER_LOG_LEVEL": "debug",
        **urls,
    }
    process = await asyncio.create_subprocess_exec(
        *command_of(role),
        cwd=directory,
        env=with_our_code(environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    text = ""
    async with asyncio.timeout(40):
        while line := (await process.stdout.readline()).decode(errors="replace"):
            text += line
            if '"error"' in line or "exception" in line:
                break
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        rest, _ = await process.communicate()
    return text + rest.decode(errors="replace")


async def test_a_refused_login_to_redis_tells_no_password(plant: Plant, tmp_path: Path) -> None:
    limits = {"ACKLEDGER_RATE_LIMIT_PER_S": "5", "ACKLEDGER_HTTP_PORT": "0"}
    environment = {
        **plant.stack.urls,
        "REDIS_URL": _wrong(plant.stack.urls["REDIS_URL"], "password"),
    }
    ingress = Instance(role=Role.INGRESS, environment=limits)
    system = System(
        environment=environment, directory=tmp_path, instances=[ingress], say=lambda _: None
    )
    async with system, Api(system.http_url, system.api_key) as api:
        assert (await api.get("/v1/wallets")).status == 200
        texts = [system.log("ingress").read_text(), (await api.get("/readyz")).body.decode()]

    assert "rate_limit_unavailable" in texts[0]
    for secret in (_PASSWORD, system.api_key, *_passwords(plant)):
        assert secret not in "".join(texts)
