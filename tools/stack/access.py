"""Users and virtual hosts on the stack's RabbitMQ, for tests and demonstrations."""

from urllib.parse import quote, unquote, urlsplit

from cli.clients.management import Management
from contracts.broker_permissions import EVERYTHING
from tools.stack.options import StackError
from tools.stack.rabbitmq import put_service_users, put_upstream_user
from tools.stack.stack import Stack


def add_upstream_user(stack: Stack, name: str, password: str, *, vhost: str = "/") -> str:
    """Let an upstream system of this name publish transactions; returns its AMQP URL."""
    put_upstream_user(_management_url(stack), name, password=password, vhost=vhost)
    return _amqp_url(stack, user=name, password=password, vhost=vhost)


def add_vhost(stack: Stack, name: str) -> str:
    """Make a virtual host that the service's user owns; returns its AMQP URL."""
    parts = urlsplit(stack.rabbitmq.url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    management = Management(_management_url(stack))
    management.put_vhost(name)
    management.put_permissions(user, vhost=name, permissions=EVERYTHING)
    put_service_users(stack.rabbitmq, vhost=name)
    return _amqp_url(stack, user=user, password=password, vhost=name)


def remove_vhost(stack: Stack, name: str) -> None:
    """Remove a virtual host with all its queues."""
    Management(_management_url(stack)).delete_vhost(name)


def _management_url(stack: Stack) -> str:
    if stack.rabbitmq.management_url is None:
        raise StackError("the management API of the given RabbitMQ is not known: management_url")
    return stack.rabbitmq.management_url


def _amqp_url(stack: Stack, *, user: str, password: str, vhost: str) -> str:
    parts = urlsplit(stack.rabbitmq.url)
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"{parts.scheme}://{login}@{parts.hostname}:{parts.port}/{quote(vhost, safe='')}"
