"""What a checkout adds to the command: the tools, which neither the wheel nor the image holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import typer

HOME: Final = Path(__file__).resolve().parent.parent
"""The root of the checkout, or the folder in which the wheel's packages were installed."""
_REGISTRATION: Final = "tools.registration"


class Command(Protocol):
    """A module of one command, or of one group of them."""

    def register(self, app: typer.Typer) -> None:
        """Add itself."""


RunningServers: TypeAlias = Callable[[Path, Mapping[str, str]], Mapping[str, str]]
"""From a directory and the environment to the variables that name the servers running there."""


def no_servers(_directory: Path, _environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return nothing: an installation starts no private servers."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """Commands that stand before and after the product's own in the help, and the servers."""

    first: tuple[Command, ...] = ()
    last: tuple[Command, ...] = ()
    running_servers: RunningServers = no_servers


def find_extension() -> Extension:
    """Return what the tools beside this package register; an empty one where there are none.

    They are found by their place, so that nobody else's package of that name is ever imported.
    """
    if not HOME.joinpath(*_REGISTRATION.split(".")).with_suffix(".py").is_file():
        return Extension()
    found: Extension = import_module(_REGISTRATION).EXTENSION
    return found
