"""Settings: read once from the environment, checked, and handed down. A wrong one stops the start.

docs/configuration.md lists every one of them; a test keeps the two in step.
"""

from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    Json,
    ValidationError,
)
from yarl import URL

from contracts.money import CODE_PATTERN
from contracts.people import normalized_email
from contracts.rate_limits import (
    LimitClass,
    RateLimits,
    parse_client_classes,
    parse_rate_limits,
)
from contracts.scopes import Role
from contracts.webhooks import WebhookTargets

PREFIX = "ACKLEDGER_"
PUBLISHED_PASSWORDS: Final = frozenset(
    {
        *("ackledger-local", "postgres-local", "demo-local", "admin-local", "migrate-local"),
        *("ingress-local", "processor-local", "reconciler-local", "notifier-local"),
        *("operator-local", "reader-local"),
        *("ackledger", "postgres", "guest", "demo"),
    }
)
"""Those of docker-compose.yml and deploy/, and the usual ones of the three servers."""


class ConfigurationError(Exception):
    """The environment says something that Ackledger cannot work with; the message names it."""


class Deployment(StrEnum):
    """What a process runs for."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"
    """It refuses known passwords, and servers whose certificate it cannot verify."""


class LogFormat(StrEnum):
    """How log lines are written."""

    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    """The least severe events that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _url_of(*schemes: str) -> AfterValidator:
    def check(text: str) -> str:
        try:
            url = URL(text)
            has_place = bool(url.host) or (url.scheme == "unix" and bool(url.path))
        except ValueError:
            raise ValueError("not a URL") from None
        if url.scheme not in schemes or not has_place:
            raise ValueError(f"expected a URL such as {schemes[0]}://host/…")
        return text

    return AfterValidator(check)


PostgresUrl = Annotated[str, _url_of("postgresql", "postgres")]
AmqpUrl = Annotated[str, _url_of("amqp", "amqps")]
RedisUrl = Annotated[str, _url_of("redis", "rediss", "unix")]
SmtpUrl = Annotated[str, _url_of("smtp", "smtps")]
EmailAddress = Annotated[str, AfterValidator(normalized_email)]
HttpUrl = Annotated[str, _url_of("http", "https")]
TRACE_PLACE: Final = "{trace_id}"
"""Where the id stands in the address of a trace."""


def _with_trace_place(url: str) -> str:
    if TRACE_PLACE not in url:
        raise ValueError(f"expected a URL with {TRACE_PLACE} in it")
    return url


TraceUrl = Annotated[HttpUrl, AfterValidator(_with_trace_place)]
TokenName = Annotated[str, Field(min_length=1, max_length=255)]
Port = Annotated[int, Field(ge=0, le=65535)]
Network = IPv4Network | IPv6Network


def _networks_of(text: object) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(part) for part in _words_of(text))
    except ValueError as error:
        raise ValueError(f"expected networks such as 10.0.0.0/8: {error}") from None


def _origins_of(text: object) -> tuple[str, ...]:
    origins = _words_of(text)
    for origin in origins:
        url = URL(origin)
        # What a browser sends: nothing behind the host, and the port only where it is no usual one.
        if url.scheme not in {"http", "https"} or not url.host or str(url.origin()) != origin:
            raise ValueError(f"expected origins such as https://shop.example, not {origin!r}")
    return origins


def _words_of(text: object) -> tuple[str, ...]:
    """Return words, with spaces or commas between them."""
    return tuple(str(text).replace(",", " ").split())


def named_url(text: str) -> tuple[str, str]:
    """Return name and URL of NAME=URL; a URL alone is named by its host and port. Else ValueError.

    A slash at its end is no part of it.
    """
    name, equals, url = text.partition("=")
    if text.startswith(_SCHEMES):
        name, url = text.partition("://")[2].rstrip("/"), text
    elif not equals or not name or not url.startswith(_SCHEMES):
        raise ValueError("expected a URL, as http://127.0.0.1:9101, or NAME=URL")
    return name, url.rstrip("/")


_SCHEMES: Final = ("http://", "https://")


def _named_urls_of(text: object) -> Mapping[str, str]:
    return dict(named_url(word) for word in _words_of(text))


def _partitions_of(text: object) -> frozenset[int]:
    words = _words_of(text)
    if not all(word.isascii() and word.isdigit() for word in words):
        raise ValueError("expected numbers of partitions such as 0,2")
    return frozenset(map(int, words))


PartitionNumbers = Annotated[InstanceOf[frozenset[int]], BeforeValidator(_partitions_of)]
NamedUrls = Annotated[InstanceOf[Mapping[str, str]], BeforeValidator(_named_urls_of)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Word = BeforeValidator(lambda text: str(text).lower())


def _secure_url(text: str) -> str:
    """A URL whose answer nobody between can change: https, or a server of this machine."""
    url = URL(text)
    if url.scheme != "https" and not is_loopback(url.host or ""):
        raise ValueError("expected a URL such as https://host/…")
    return text


SecureUrl = Annotated[HttpUrl, AfterValidator(_secure_url)]


class IssuerAlgorithm(StrEnum):
    """How tokens of other issuers may be signed: with a key that only they have."""

    RS256 = "RS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


Networks = Annotated[InstanceOf[tuple[Network, ...]], BeforeValidator(_networks_of)]
Origins = Annotated[InstanceOf[tuple[str, ...]], BeforeValidator(_origins_of)]
Limits = Annotated[InstanceOf[RateLimits], BeforeValidator(parse_rate_limits)]
ClientClasses = Annotated[
    InstanceOf[Mapping[str, LimitClass]], BeforeValidator(parse_client_classes)
]


class GivenSettings(BaseModel):
    """Settings that come from the mapping they are given and from nowhere else."""

    # A process reads one of the classes: the others need not be built.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)


class DatabaseSettings(GivenSettings):
    """What reaches PostgreSQL."""

    database_url: PostgresUrl = Field(validation_alias="DATABASE_URL")
    database_statement_timeout_s: Seconds = 10.0


class BrokerSettings(GivenSettings):
    """What reaches RabbitMQ."""

    amqp_url: AmqpUrl = Field(validation_alias="AMQP_URL")
    partitions: Annotated[int, Field(ge=1, le=256)] = 1
    events_log: bool = True


class ManagementSettings(BrokerSettings):
    """What reaches RabbitMQ's management API, to make users in the virtual host of `amqp_url`."""

    amqp_management_url: HttpUrl


class LogSettings(GivenSettings):
    """How a process speaks of itself."""

    log_level: LogLevel = LogLevel.INFO
    log_format: LogFormat = LogFormat.JSON


class TracingSettings(GivenSettings):
    """Where spans are sent, and of how many traces."""

    traces_url: HttpUrl | None = None
    otlp_endpoint: HttpUrl | None = Field(
        default=None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    traces_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0


class ProcessSettings(LogSettings):
    """What every long-running process needs."""

    env: Annotated[Deployment, Word] = Deployment.DEVELOPMENT
    status_host: str = "127.0.0.1"
    status_port: Port = 0
    shutdown_timeout_s: Seconds = 20.0


class ServiceSettings(DatabaseSettings, BrokerSettings, ProcessSettings):
    """What the processes need that work with the servers."""

    allow_plaintext: bool = False
    fault_orders: Path | None = None


class ProcessorDuty(StrEnum):
    """What a processor does."""

    ALL = "all"
    POSTING = "posting"
    """It posts, and leaves the events to others."""
    EVENTS = "events"
    """It publishes events, and posts nothing."""


class ConsoleSettings(ProcessSettings):
    """The web pages."""

    status_port: Port = 9105
    console_host: str = "127.0.0.1"
    console_port: Port = 8090
    console_api_url: HttpUrl = "http://127.0.0.1:8080"
    console_is_https: bool = False
    console_key_file: Path | None = None
    console_status_urls: NamedUrls = Field(default_factory=dict)
    console_trace_url: TraceUrl | None = None


class TokenIssuer(BaseModel):
    """Somebody else who says who people are: what of their tokens is believed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: Annotated[str, Field(min_length=1, max_length=255)]
    jwks_url: SecureUrl
    audience: Annotated[str, Field(min_length=1, max_length=255)]
    algorithms: Annotated[tuple[IssuerAlgorithm, ...], Field(min_length=1)]
    role: Role


class PeopleSettings(GivenSettings):
    """People's accounts, and the tokens that let them in."""

    token_keys: Path | None = None
    token_issuer: TokenName = "ackledger"  # noqa: S105  # a name
    token_audience: TokenName = "ackledger"  # noqa: S105  # a name
    access_token_s: Annotated[float, Field(ge=10, le=3600)] = 600.0
    session_s: Annotated[float, Field(ge=60, le=31_536_000)] = 2_592_000.0
    token_issuers: Json[Annotated[tuple[TokenIssuer, ...], Field(max_length=16)]] = Field(
        default=(), validate_default=False
    )
    password_hashes_at_once: Annotated[int, Field(ge=1, le=64)] = 1
    password_hashes_waiting_max: Annotated[int, Field(ge=1, le=10_000)] = 64
    wallets_per_owner_and_currency: Annotated[int, Field(ge=1, le=1000)] = 1
    first_wallet_currency: Annotated[str, Field(pattern=CODE_PATTERN)] | None = None


class WebhookSettings(GivenSettings):
    """Where events may be sent."""

    webhook_targets: Annotated[WebhookTargets, Word] = WebhookTargets.PUBLIC


class IngressSettings(ServiceSettings, TracingSettings, PeopleSettings, WebhookSettings):
    """The HTTP door."""

    redis_url: RedisUrl = Field(validation_alias="REDIS_URL")
    http_host: str = "127.0.0.1"
    http_port: Port = 8080
    status_port: Port = 9101
    ingress_database_connections: Annotated[int, Field(ge=2, le=100)] = 10
    ingress_list_connections: Annotated[int, Field(ge=1, le=100)] = 4
    group_size: Annotated[int, Field(ge=1, le=1000)] = 256
    group_flushers: Annotated[int, Field(ge=1, le=16)] = 2
    confirm_timeout_s: Seconds = 1.0
    backlog_max: Annotated[int, Field(ge=1)] = 1_000_000
    http_connections_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    http_idle_s: Seconds = 3630.0
    fast_path: bool = True
    cors_origins: Origins = ()
    trusted_proxies: Networks = ()
    rate_limits: Limits = parse_rate_limits("")
    rate_limit_clients: ClientClasses = Field(default_factory=dict)
    login_free_attempts: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    login_free_attempts_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    rate_limit_per_s: Annotated[float, Field(ge=0)] = 0.0
    rate_limit_burst: Annotated[int, Field(ge=1)] = 1000
    customer_deposits: bool = False
    events_readers_max: Annotated[int, Field(ge=1, le=1_000_000)] = 5_000
    events_heartbeat_s: Annotated[float, Field(ge=1, le=3600)] = 15.0


class ProcessorSettings(ServiceSettings, TracingSettings):
    """The poster of transactions."""

    status_port: Port = 9102
    processor_duty: Annotated[ProcessorDuty, Word] = ProcessorDuty.ALL
    processor_partitions: PartitionNumbers = frozenset()
    processor_database_connections: Annotated[int, Field(ge=2, le=100)] = 5
    batch_size: Annotated[int, Field(ge=1, le=1000)] = 1000
    lock_timeout_s: Seconds = 5.0


class BooksSettings(GivenSettings):
    """What a verification holds against the books."""

    verify_pending_max_s: Seconds = 300.0
    verify_unsealed_max_s: Annotated[float, Field(gt=0, le=31_536_000)] = 3600.0
    seal_keys: Path | None = None


class ReconcilerSettings(ServiceSettings, TracingSettings, BooksSettings):
    """The sweeper of what got stuck, and the keeper of dead letters."""

    status_port: Port = 9103
    stale_after_s: Seconds = 30.0
    reconcile_interval_s: Seconds = 5.0
    reconcile_in_flight_max: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    expire_after_s: Annotated[float, Field(ge=0, le=31_536_000)] = 86_400.0
    integrity_interval_s: Seconds = 10.0
    seal_interval_s: Seconds = 10.0


class NotifierSettings(ServiceSettings, TracingSettings, WebhookSettings):
    """The sender of mails and webhooks, and the writer of notifications of money."""

    status_port: Port = 9104
    smtp_url: SmtpUrl | None = None
    mail_from: EmailAddress | None = None


class VerifySettings(DatabaseSettings, BooksSettings):
    """What `ackledger verify` works with."""


class BackupSettings(GivenSettings):
    """Where back-ups are kept, and who may take them."""

    backup_directory: Path
    backup_database_url: PostgresUrl
    postgres_programs: Path | None = None


class SealKeySettings(GivenSettings):
    """Where the keys are that seals are signed with."""

    seal_keys: Path


class TokenKeySettings(GivenSettings):
    """Where the keys are that access tokens are signed with."""

    token_keys: Path


Settings = TypeVar("Settings", bound=GivenSettings)


def load_settings(kind: type[Settings], environment: Mapping[str, str]) -> Settings:
    """Return the settings that an environment holds; raises ConfigurationError naming a wrong one.

    Names are as documented (`ACKLEDGER_…`, DATABASE_URL, AMQP_URL, REDIS_URL), case included.
    """
    values: dict[str, Any] = {}
    for field, info in kind.model_fields.items():
        name = variable_of(field, info.validation_alias)
        if environment.get(name, "") != "":
            values[str(info.validation_alias or field)] = environment[name]
    try:
        settings = kind.model_validate(values)
    except ValidationError as error:
        found = error.errors()[0]
        field = str(found["loc"][0])
        name = field if field.isupper() else PREFIX + field.upper()
        if found["type"] == "missing":
            raise ConfigurationError(f"{name} is not set") from None
        # A URL is not repeated: it holds a password.
        given = "" if name.endswith(("_URL", "_ENDPOINT")) else f"={found['input']!r}"
        reason = found["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{name}{given}: {reason}") from None
    _check_deployment(settings)
    return settings


def _check_deployment(settings: GivenSettings) -> None:
    """Raise ConfigurationError where a process of production must not use a server so."""
    if not isinstance(settings, ServiceSettings) or settings.env is not Deployment.PRODUCTION:
        return
    urls = {
        variable: getattr(settings, field)
        for field, variable in _URL_VARIABLES.items()
        if hasattr(settings, field)
    }
    found = unfit_for_production(urls, is_plaintext_allowed=settings.allow_plaintext)
    if found is not None:
        raise ConfigurationError(found)


_URL_VARIABLES: Final = {
    "database_url": "DATABASE_URL",
    "amqp_url": "AMQP_URL",
    "redis_url": "REDIS_URL",
}


def variable_of(field: str, alias: object) -> str:
    """Return the environment variable that sets a field."""
    return alias if isinstance(alias, str) else PREFIX + field.upper()


def unfit_for_production(urls: Mapping[str, str], *, is_plaintext_allowed: bool) -> str | None:
    """Return a sentence about the first server that must not be used so; None if all may be.

    `urls` are by variable; no sentence repeats a word of one, for it holds a password.
    """
    for variable, text in urls.items():
        url = URL(text)
        if url.password is not None and url.password in PUBLISHED_PASSWORDS:
            return f"{variable} has a password that everybody knows: production needs its own"
        if is_plaintext_allowed or url.host is None or is_loopback(url.host):
            continue
        wanted = _unverified(url)
        if wanted is not None:
            return (
                f"{variable} reaches another machine without a verified certificate: production "
                f"needs {wanted}, or ACKLEDGER_ALLOW_PLAINTEXT=true where the network is trusted"
            )
    return None


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine, so that nobody is between."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unverified(url: URL) -> str | None:
    """Return what a URL lacks so that the server's certificate and name are verified."""
    query = url.query
    if url.scheme in {"postgresql", "postgres"}:
        return None if query.get("sslmode") == "verify-full" else "sslmode=verify-full in it"
    if url.scheme in {"amqp", "amqps"}:
        is_verified = url.scheme == "amqps" and query.get("no_verify_ssl", "0") == "0"
        return None if is_verified else "amqps:// without no_verify_ssl"
    is_verified = (
        url.scheme == "rediss"
        and query.get("ssl_cert_reqs", "required") == "required"
        and query.get("ssl_check_hostname", "true").lower() in {"true", "1", "yes"}
    )
    return None if is_verified else "rediss:// with its certificate required"
