"""How one of our processes is started as a program: the interpreter, the module, the same code."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

MODULES: Final = {
    "ingress": "ingress",
    "processor": "processor",
    "reconciler": "reconciler",
    "notifier": "notifier",
    "console": "console",
}


def command_of(process: str) -> list[str]:
    """Return the command; -P keeps packages that lie in the working directory out."""
    return [sys.executable, "-P", "-m", MODULES[process]]


def with_our_code(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which the program imports what this process runs.

    A checkout without an installation of its own would else start the code of another one.
    """
    paths = [str(Path(__file__).resolve().parent.parent), environment.get("PYTHONPATH", "")]
    return {**environment, "PYTHONPATH": ":".join(path for path in paths if path)}
