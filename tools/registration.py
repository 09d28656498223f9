"""How the tools become commands of `ackledger`: the command line looks for this module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cli.extensions import Extension
from tools.commands import audit, bench, chaos, demo, run, stack


def running_servers(directory: Path, environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables that name the private servers of a directory, and its keys.

    Empty when none runs.
    """
    if not (directory / "stack.json").exists():
        return {}
    try:
        from tools.signing_keys import signing_keys_of
        from tools.stack import StackOptions, read_stack
        from tools.stack.backups import backups_of
    except ModuleNotFoundError:
        # Installed without the extra `stack`: such an environment starts no private servers.
        return {}
    found = read_stack(directory, options=StackOptions(environment=environment))
    if found is None:
        return {}
    management_url = found.rabbitmq.management_url
    management = {"ACKLEDGER_AMQP_MANAGEMENT_URL": management_url} if management_url else {}
    return {**found.urls, **management, **signing_keys_of(found), **backups_of(found)}


EXTENSION: Final = Extension(
    first=(run, demo, audit, stack), last=(chaos, bench), running_servers=running_servers
)
