"""Settings: what is wrong is named, what is not said has a default, nothing is guessed."""

from typing import get_args

import pytest
import typer

from cli.command_line import build_app
from cli.dead_letters import ANY, filter_of
from contracts.dead_letters import DeadLetterState
from contracts.messages import DeadLetterReason
from contracts.requests.transaction import RequestedType
from runtime.service.settings import (
    ConfigurationError,
    ConsoleSettings,
    GivenSettings,
    IngressSettings,
    LogFormat,
    ProcessorSettings,
    ReconcilerSettings,
    VerifySettings,
    load_settings,
    variable_of,
)
from tools.settings import StackSettings

SERVERS = {
    "DATABASE_URL": "postgresql://ledger@db.example/books",
    "AMQP_URL": "amqp://ledger@broker.example/",
    "REDIS_URL": "redis://cache.example/0",
}


def test_the_servers_alone_are_enough() -> None:
    for kind in (IngressSettings, ProcessorSettings, ReconcilerSettings, VerifySettings):
        load_settings(kind, SERVERS)


@pytest.mark.parametrize("variable", SERVERS)
def test_a_missing_server_is_named(variable: str) -> None:
    environment = {name: url for name, url in SERVERS.items() if name != variable}

    with pytest.raises(ConfigurationError, match=f"^{variable} is not set$"):
        load_settings(IngressSettings, environment)


@pytest.mark.parametrize("variable", SERVERS)
def test_an_empty_value_counts_as_unset(variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable} is not set$"):
        load_settings(IngressSettings, {**SERVERS, variable: ""})


@pytest.mark.parametrize(
    ("kind", "variable", "value"),
    [
        (IngressSettings, "DATABASE_URL", "mysql://db.example/books"),
        (IngressSettings, "DATABASE_URL", "postgresql:///books"),
        (IngressSettings, "AMQP_URL", "http://broker.example"),
        (IngressSettings, "REDIS_URL", "cache.example"),
        (IngressSettings, "ACKLEDGER_HTTP_PORT", "65536"),
        (ConsoleSettings, "ACKLEDGER_CONSOLE_TRACE_URL", "http://traces.example/trace/"),
        (ConsoleSettings, "ACKLEDGER_CONSOLE_TRACE_URL", "javascript:alert('{trace_id}')"),
        (IngressSettings, "ACKLEDGER_HTTP_PORT", "-1"),
        (IngressSettings, "ACKLEDGER_HTTP_PORT", "http"),
        (IngressSettings, "ACKLEDGER_GROUP_SIZE", "0"),
        (IngressSettings, "ACKLEDGER_GROUP_SIZE", "1001"),
        (IngressSettings, "ACKLEDGER_CONFIRM_TIMEOUT_S", "0"),
        (IngressSettings, "ACKLEDGER_CONFIRM_TIMEOUT_S", "nan"),
        (IngressSettings, "ACKLEDGER_CONFIRM_TIMEOUT_S", "inf"),
        (IngressSettings, "ACKLEDGER_RATE_LIMIT_PER_S", "-1"),
        (IngressSettings, "ACKLEDGER_LOG_LEVEL", "loud"),
        (IngressSettings, "ACKLEDGER_LOG_FORMAT", "xml"),
        (ProcessorSettings, "ACKLEDGER_BATCH_SIZE", "1.5"),
        (ProcessorSettings, "ACKLEDGER_PARTITIONS", "257"),
        (ProcessorSettings, "ACKLEDGER_PROCESSOR_DUTY", "relay"),
        (ProcessorSettings, "ACKLEDGER_PROCESSOR_PARTITIONS", "first"),
        (ProcessorSettings, "ACKLEDGER_PROCESSOR_PARTITIONS", "0,-1"),
        (ReconcilerSettings, "ACKLEDGER_STALE_AFTER_S", "86401"),
        (ReconcilerSettings, "ACKLEDGER_EXPIRE_AFTER_S", "-1"),
        (VerifySettings, "ACKLEDGER_VERIFY_PENDING_MAX_S", "soon"),
        (StackSettings, "ACKLEDGER_STACK", "cloud"),
    ],
)
def test_a_wrong_value_is_named_with_its_variable(
    kind: type[GivenSettings], variable: str, value: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_settings(kind, {**SERVERS, variable: value})

    given = "" if variable.endswith("_URL") else f"='{value}'"
    assert str(raised.value).startswith(f"{variable}{given}: ")


def test_a_wrong_url_is_not_repeated_since_it_holds_a_password() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_settings(IngressSettings, {**SERVERS, "AMQP_URL": "amq://shop:hunter2@broker/"})

    assert "hunter2" not in str(raised.value)


def test_redis_may_be_reached_by_its_socket() -> None:
    url = "unix:///run/redis.sock"

    assert load_settings(IngressSettings, {**SERVERS, "REDIS_URL": url}).redis_url == url


def test_a_set_value_wins_over_the_default() -> None:
    settings = load_settings(
        IngressSettings,
        {**SERVERS, "ACKLEDGER_LOG_FORMAT": "console", "ACKLEDGER_CONFIRM_TIMEOUT_S": "0.25"},
    )

    assert settings.log_format is LogFormat.CONSOLE
    assert settings.confirm_timeout_s == 0.25


def test_each_process_has_a_status_port_of_its_own() -> None:
    ports = [
        load_settings(kind, SERVERS).status_port
        for kind in (IngressSettings, ProcessorSettings, ReconcilerSettings)
    ]

    assert len(set(ports)) == 3


def test_only_the_given_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", SERVERS["DATABASE_URL"])

    with pytest.raises(ConfigurationError, match="DATABASE_URL is not set"):
        load_settings(VerifySettings, {})


def test_other_variables_do_no_harm() -> None:
    load_settings(VerifySettings, {**SERVERS, "ACKLEDGER_UNHEARD_OF": "1", "HOME": "/nowhere"})


def test_variables_are_the_fields_in_capitals_with_the_prefix() -> None:
    variables = {
        variable_of(field, info.validation_alias)
        for field, info in ReconcilerSettings.model_fields.items()
    }

    assert {"DATABASE_URL", "AMQP_URL", "ACKLEDGER_STALE_AFTER_S"} <= variables
    assert "ACKLEDGER_DATABASE_URL" not in variables


def test_the_command_line_knows_the_contract_s_words() -> None:
    assert _choices("submit", "kind") == {kind.value for kind in RequestedType}
    assert _choices("dead-letters list", "state") == {*DeadLetterState, ANY}
    for reason in DeadLetterReason:
        assert filter_of(reason=reason, submitter=None, state=ANY).reason == reason


def _choices(path: str, parameter: str) -> set[str]:
    """The words that an option of a command takes, from its function's annotation."""
    group = build_app()
    *groups, name = path.split()
    for one in groups:
        group = next(
            found.typer_instance
            for found in group.registered_groups
            if found.name == one and isinstance(found.typer_instance, typer.Typer)
        )
    [callback] = [
        command.callback
        for command in group.registered_commands
        if command.name == name and command.callback is not None
    ]
    words, _ = get_args(callback.__annotations__[parameter])
    return set(get_args(words))
