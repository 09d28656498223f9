"""What `--version` says: the release, and the commit it was made from where that is known."""

import json
import subprocess
from collections.abc import Mapping
from importlib import metadata
from typing import Final

from cli.extensions import HOME

COMMIT_VARIABLE: Final = "ACKLEDGER_COMMIT"
"""Set in the container image, which holds no history to ask."""
UNKNOWN: Final = "unknown"
_NAME: Final = "ackledger"
_SHOWN: Final = 12
"""Characters of a commit's hash: enough to be the only one."""
_GIT_BOUND_S: Final = 5.0


def version_line(environment: Mapping[str, str]) -> str:
    """Return name, release and commit, as `ackledger 1.2.3 (commit 0123456789ab)`."""
    try:
        release = metadata.version(_NAME)
    except metadata.PackageNotFoundError:
        # A checkout that is run without having been installed.
        release = UNKNOWN
    return f"{_NAME} {release} (commit {_commit(environment)})"


def _commit(environment: Mapping[str, str]) -> str:
    found = environment.get(COMMIT_VARIABLE) or _commit_of_checkout() or _commit_of_installation()
    return (found or UNKNOWN)[:_SHOWN]


def _commit_of_checkout() -> str | None:
    """Ask git, but only about a checkout of ours: an environment may lie inside another one."""
    if not (HOME / ".git").exists() or not (HOME / "pyproject.toml").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(HOME), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT_BOUND_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _commit_of_installation() -> str | None:
    """Return what an installer noted that took the code from a repository (PEP 610)."""
    try:
        origin = json.loads(metadata.distribution(_NAME).read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None
    commit = origin.get("vcs_info", {}).get("commit_id")
    return str(commit) if commit else None
