"""Requests that schemathesis generates from the published document, held against it.

Each answer must be one that the document announces, by status, type and schema, and no 5xx; what
needs a key must not be answered without one.
"""

import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DOCUMENT: Final = Path(__file__).parents[1] / "contracts/documents/openapi.json"
CHECKS: Final = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,ignored_auth"
)
PHASES: Final = ("examples", "coverage", "fuzzing")
SEED: Final = 20_261_129
TRIED_S: Final = 3_600.0
"""A machine that others use takes many times as long as an idle one, which needs three minutes."""
ENDLESS: Final = frozenset({"follow_events"})
"""The operation whose answer has no end."""
ENDS_THE_SESSION: Final = frozenset({"log_out", "revoke_session"})
"""Operations after which a person's token is nobody's: ids that answers name are sent, too."""
CHANGES_OTHERS: Final = frozenset({"change_user"})
"""The operation by which one caller changes who another is."""
NOT_LIMITED: Final = {
    "ACKLEDGER_RATE_LIMITS": "anonymous=none login=none authenticated=none "
    "deposit=none withdrawal=none transfer=none",
    "ACKLEDGER_LOGIN_FREE_ATTEMPTS": "1000000",
    "ACKLEDGER_LOGIN_FREE_ATTEMPTS_PER_ADDRESS": "1000000",
    # One token has to last for a whole run.
    "ACKLEDGER_ACCESS_TOKEN_S": "3600",
}
"""Settings of an ingress whose answers to people are to be other than 429."""

_ALWAYS: Final = (
    *("--checks", CHECKS, "--seed", str(SEED), "--report", "json"),
    *("--suppress-health-check", "all", "--generation-database", "none"),
    *("--no-color", "--continue-on-failure"),
)


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one caller's requests."""

    cases: int
    """Requests that were generated, sent and held against the document."""
    operations: int
    is_well: bool
    log: Path
    """All that schemathesis said, with what reproduces each failure."""

    @property
    def told(self) -> str:
        """The same in words."""
        return f"{self.cases:,} requests of {self.operations} operations"


def try_operations(
    url: str,
    token: str,
    *,
    examples: int,
    directory: Path,
    environment: Mapping[str, str],
    phases: Collection[str] = PHASES,
    excluded: Collection[str] = ENDLESS,
) -> Tried:
    """Send `examples` of each operation, and what else the phases make, as one caller.

    `directory` takes the log; `excluded` are ids of operations. Blocks for TRIED_S at most.
    """
    directory = directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    # The token is in a file: a command line is read by everybody on the machine.
    settings = directory / "schemathesis.toml"
    settings.touch(mode=0o600)
    settings.write_text(f'[headers]\nAuthorization = "Bearer {token}"\n', encoding="utf-8")
    log, report = directory / "schemathesis.log", directory / "report.json"
    report.unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(DOCUMENT)),
        *("--url", url, "--max-examples", str(examples), "--phases", ",".join(phases)),
        *(part for name in sorted(excluded) for part in ("--exclude-operation-id", name)),
        *("--report-json-path", str(report), *_ALWAYS),
    ]
    with log.open("w", encoding="utf-8") as said:
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env={**environment, "PYTHONWARNINGS": "ignore"},
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=TRIED_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Tried(cases=0, operations=0, is_well=False, log=log)
    counted: Any = json.loads(report.read_bytes()) if report.exists() else {}
    return Tried(
        cases=counted.get("test_cases", {}).get("generated", 0),
        operations=counted.get("operations", {}).get("tested", 0),
        is_well=done.returncode == 0 and counted.get("complete") is True,
        log=log,
    )
