"""Settings of the command line alone: the private servers, and where a client finds the ingress."""

from pathlib import Path

from pydantic import Field

from cli.invocation import DIRECTORY_DEFAULT
from runtime.service.settings import AmqpUrl, GivenSettings, HttpUrl, PostgresUrl, RedisUrl
from tools.stack.options import PostgresBinaries, StackMode


class StackSettings(GivenSettings):
    """Where the servers come from, and where private ones keep their data."""

    database_url: PostgresUrl | None = Field(default=None, validation_alias="DATABASE_URL")
    amqp_url: AmqpUrl | None = Field(default=None, validation_alias="AMQP_URL")
    redis_url: RedisUrl | None = Field(default=None, validation_alias="REDIS_URL")
    stack: StackMode = StackMode.AUTO
    stack_postgres: PostgresBinaries = PostgresBinaries.AUTO
    directory: Path = Path(DIRECTORY_DEFAULT)
    amqp_management_url: HttpUrl | None = None
