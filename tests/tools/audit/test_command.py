"""`ackledger audit`: from nothing to books that three programs agree on."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from cli.export.exporting import ExportFormat
from tests.tools.audit.conftest import AUDITORS
from tests.tools.stack.starting import processes_of
from tools.audit.programs import Program
from tools.audit.report import BEGINS, ENDS

pytestmark = pytest.mark.long

_BOUND_S = 240


async def test_the_demonstrations_books_are_what_three_programs_say(
    programs: dict[ExportFormat, Program], tmp_path: Path
) -> None:
    page = tmp_path / "books.md"
    page.write_text(f"# Books\n{BEGINS}\nold\n{ENDS}\nend\n", encoding="utf-8")
    given = {"DATABASE_URL", "AMQP_URL", "REDIS_URL"}
    environment = {name: text for name, text in os.environ.items() if name not in given}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "audit", "--json", "--transactions", "400"),
        *("--auditors", str(AUDITORS), "--report", str(page)),
        env={**environment, "ACKLEDGER_DIRECTORY": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_BOUND_S):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    report = json.loads(output)

    assert report["is_well"]
    assert [one["agrees"] for one in report["programs"]] == [True] * len(programs)
    assert set(report["by_type"]) >= {"capture", "journal", "reversal", "withdrawal"}
    text = page.read_text(encoding="utf-8")
    assert "hledger" in text
    assert "old" not in text
    assert text.endswith(f"{ENDS}\nend\n")
    assert processes_of(tmp_path) == []
