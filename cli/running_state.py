"""What `ackledger run` tells other terminals: `run.json` in its directory, for its owner only."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from cli.private_files import make_state_folder

NAME: Final = "run.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningState:
    """Where a running system is reached; `http_url` is None when none runs.

    The key outlives the run, and so does the password of the console's admin: the next one uses
    them again while they are in force.
    """

    api_key: str | None = None
    console_password: str | None = None
    http_url: str | None = None
    upstream_amqp_url: str | None = None
    management_url: str | None = None
    status_urls: dict[str, str] = field(default_factory=dict)
    pid: int | None = None
    started_at: float | None = None
    """The creation time of the process `pid`, which tells it from a later one of that number."""

    @classmethod
    def load(cls, directory: Path) -> "RunningState":
        """Read it; a missing or damaged file is an empty state."""
        try:
            return cls(**json.loads((directory / NAME).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, directory: Path) -> None:
        """Replace the file as a whole: it holds a key and passwords, so only its owner reads it."""
        make_state_folder(directory)
        draft = directory / f"{NAME}.new"
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(self), indent=1))
        draft.replace(directory / NAME)
