"""PostgreSQL, RabbitMQ and Redis for one checkout: given by URL, private, or in containers."""

from tools.stack.access import add_upstream_user, add_vhost, remove_vhost
from tools.stack.options import (
    PostgresBinaries,
    Progress,
    ServiceKind,
    StackError,
    StackMode,
    StackOptions,
    StackUnavailable,
    StackUnreachable,
)
from tools.stack.service import Service
from tools.stack.stack import Stack, read_stack, start_stack, stop_stack

__all__ = [
    "PostgresBinaries",
    "Progress",
    "Service",
    "ServiceKind",
    "Stack",
    "StackError",
    "StackMode",
    "StackOptions",
    "StackUnavailable",
    "StackUnreachable",
    "add_upstream_user",
    "add_vhost",
    "read_stack",
    "remove_vhost",
    "start_stack",
    "stop_stack",
]
