"""What production refuses to start with."""

import re
from pathlib import Path

import pytest

from runtime.service.settings import (
    PUBLISHED_PASSWORDS,
    ConfigurationError,
    IngressSettings,
    ProcessorSettings,
    load_settings,
)

_ROOT = Path(__file__).parents[2]
PRODUCTION = {
    "ACKLEDGER_ENV": "production",
    "DATABASE_URL": "postgresql://ledger:k3@db.example/books?sslmode=verify-full",
    "AMQP_URL": "amqps://ledger:k4@broker.example/",
    "REDIS_URL": "rediss://:k5@cache.example/0",
}
_LOCAL = {
    "DATABASE_URL": "postgresql://ledger:k3@127.0.0.1/books",
    "AMQP_URL": "amqp://ledger:k4@localhost/",
    "REDIS_URL": "redis://[::1]/0",
}


def test_servers_that_are_verified_or_on_this_machine_are_good() -> None:
    load_settings(IngressSettings, PRODUCTION)
    load_settings(IngressSettings, {**PRODUCTION, **_LOCAL})
    load_settings(IngressSettings, {**PRODUCTION, "REDIS_URL": "unix:///run/redis.sock"})


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("DATABASE_URL", "postgresql://ledger:k3@db.example/books"),
        ("DATABASE_URL", "postgresql://ledger:k3@db.example/books?sslmode=require"),
        ("DATABASE_URL", "postgresql://ledger:k3@db.example/books?sslmode=verify-ca"),
        ("AMQP_URL", "amqp://ledger:k4@broker.example/"),
        ("AMQP_URL", "amqps://ledger:k4@broker.example/?no_verify_ssl=1"),
        ("REDIS_URL", "redis://:k5@cache.example/0"),
        ("REDIS_URL", "redis://:k5@localhost.example/0"),
        ("REDIS_URL", "rediss://:k5@cache.example/0?ssl_cert_reqs=none"),
        ("REDIS_URL", "rediss://:k5@cache.example/0?ssl_check_hostname=false"),
    ],
)
def test_a_server_elsewhere_whose_certificate_is_not_verified_is_refused(
    variable: str, url: str
) -> None:
    environment = {**PRODUCTION, variable: url}
    with pytest.raises(ConfigurationError, match=f"^{variable} reaches another machine") as raised:
        load_settings(IngressSettings, environment)

    assert not re.search("k[345]", str(raised.value))
    load_settings(IngressSettings, {**environment, "ACKLEDGER_ALLOW_PLAINTEXT": "true"})
    load_settings(IngressSettings, {**environment, "ACKLEDGER_ENV": "development"})


@pytest.mark.parametrize("password", sorted(PUBLISHED_PASSWORDS))
@pytest.mark.parametrize("variable", ["DATABASE_URL", "AMQP_URL", "REDIS_URL"])
def test_a_published_password_is_refused_wherever_the_server_is(
    variable: str, password: str
) -> None:
    url = re.sub(r":k?\d?@|//(?=\[)", f":{password}@", {**_LOCAL}[variable])
    url = url.replace(f"redis::{password}@", f"redis://:{password}@")
    environment = {**PRODUCTION, variable: url, "ACKLEDGER_ALLOW_PLAINTEXT": "true"}
    with pytest.raises(ConfigurationError, match=f"^{variable} has a password"):
        load_settings(IngressSettings, environment)


def test_a_process_is_held_to_the_servers_that_it_uses() -> None:
    environment = {**PRODUCTION, "REDIS_URL": "redis://cache.example/0"}

    load_settings(ProcessorSettings, environment)


def test_words_are_read_in_any_letters() -> None:
    with pytest.raises(ConfigurationError, match=r"^AMQP_URL"):
        load_settings(
            ProcessorSettings,
            {**PRODUCTION, "ACKLEDGER_ENV": "Production", "AMQP_URL": "amqp://broker.example/"},
        )


def test_every_password_of_the_compose_file_counts_as_published() -> None:
    text = (_ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    passwords = set(re.findall(r"PASSWORD:-([^}]+)\}", text))

    assert passwords
    assert passwords <= PUBLISHED_PASSWORDS
