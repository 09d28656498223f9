"""A quick bench run: its own servers, figures, verified ledgers, a report and a page."""

import asyncio
import os
import sys
from pathlib import Path

import orjson
import pytest

from cli.launching import with_our_code
from tests.tools.stack.starting import processes_of
from tools.bench import pgbench

_BOUND_S = 300


async def _run(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "bench", *arguments),
        env=with_our_code(dict(os.environ)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_BOUND_S):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_a_quick_run_measures_verifies_and_writes_its_page(tmp_path: Path) -> None:
    directory, report = tmp_path / "bench", tmp_path / "report.json"
    options = ("--quick", "--cases", "growth", "--directory", str(directory))

    code, output = await _run(*options, "--report", str(report), "--page", str(tmp_path))

    assert code == 0, output
    found = orjson.loads(report.read_bytes())
    assert (found["is_clean"], found["unclean"]) == (True, [])
    assert found["verified"] > 0
    measured = {(one["case"], one["metric"]) for one in found["figures"]}
    assert ("growth", "transactions_per_s") in measured
    assert all(one["least"] <= one["median"] <= one["most"] for one in found["figures"])
    assert "every one clean" in (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert (tmp_path / "performance" / "growth.svg").exists()
    assert not directory.exists()
    assert processes_of(directory) == []


async def test_a_report_can_be_told_again_without_measuring(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.json"

    code, output = await _run("--from", str(nothing))

    assert code == 2
    assert "no report of a bench run" in output


async def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious", encoding="utf-8")

    code, output = await _run("--quick", "--cases", "start-up", "--directory", str(tmp_path))

    assert code == 2
    assert "name another --directory" in output
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "precious"


async def test_a_server_that_is_not_installed_is_refused_before_anything_is_started(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "bench"
    options = ("--quick", "--cases", "start-up", "--directory", str(directory))

    code, output = await _run(*options, "--postgres", "7")

    assert code == 2
    assert "--postgres 7: PostgreSQL 7 is not installed; there is " in output
    assert "apt install postgresql-7" in output
    assert not directory.exists()


@pytest.mark.skipif(pgbench.program(15) is None, reason="PostgreSQL 15 is not installed")
async def test_the_circumstances_name_the_server_that_was_asked_for(tmp_path: Path) -> None:
    directory, report = tmp_path / "bench", tmp_path / "report.json"
    options = ("--quick", "--cases", "start-up", "--directory", str(directory))

    code, output = await _run(*options, "--postgres", "15", "--report", str(report))

    assert code == 0, output
    circumstances = orjson.loads(report.read_bytes())["circumstances"]
    assert circumstances["versions"]["PostgreSQL"].split(".")[0] == "15"
    assert circumstances["command"].endswith("--postgres 15 --quick")
