"""A checkout of Ackledger whose processes and commands run with its own code and interpreter."""

import json
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

STOP_BOUND_S: Final = 30.0
COMMAND_BOUND_S: Final = 1_800.0
"""For a command over a long book: building an index on it, or verifying it."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Where the code lies, with an environment in `.venv`, and what its processes are told."""

    name: str
    root: Path
    environment: Mapping[str, str]

    def command(self, *arguments: str) -> str:
        """Run `ackledger` and return what it printed; raises CalledProcessError if it fails."""
        return subprocess.run(
            self._python("cli", *arguments),
            env=self._environment({}),
            stdout=subprocess.PIPE,
            timeout=COMMAND_BOUND_S,
            check=True,
            text=True,
        ).stdout

    def verify(self) -> dict[str, Any]:
        """Return the report of `ackledger verify`, clean or not."""
        done = subprocess.run(
            self._python("cli", "verify", "--json"),
            env=self._environment({}),
            stdout=subprocess.PIPE,
            timeout=COMMAND_BOUND_S,
            check=False,
            text=True,
        )
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    @contextmanager
    def processes(
        self, log: Path, ports: Mapping[str, Mapping[str, str]]
    ) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
        """Run processes, by module, with settings of their own; they are stopped at the end."""
        with log.open("ab") as output:
            started = [
                subprocess.Popen(
                    self._python(module),
                    env=self._environment(settings),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                for module, settings in ports.items()
            ]
        try:
            yield started
        finally:
            _stop(started)

    def _python(self, module: str, *arguments: str) -> list[str]:
        # -P: what lies in the working directory is no place to import from.
        return [str(self.root / ".venv/bin/python"), "-P", "-m", module, *arguments]

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        return {**self.environment, **settings, "PYTHONPATH": str(self.root)}


def _stop(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask all to stop at once; what has not by then is killed."""
    for process in started:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    for process in started:
        try:
            process.wait(STOP_BOUND_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
