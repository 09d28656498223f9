"""The release and its commit, and completion for the shells that people use."""

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.integration.command_line.calling import ROOT, ackledger


async def test_the_version_is_told_with_the_commit_of_the_checkout(directory: Path) -> None:
    head = subprocess.run(  # noqa: ASYNC221  # it takes no time, and nothing else runs
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()

    called = await ackledger("--version", directory=directory)

    assert called.code == 0
    assert called.out == f"ackledger {version('ackledger')} (commit {head[:12] or 'unknown'})\n"


async def test_the_image_s_commit_is_told_where_it_is_named(directory: Path) -> None:
    variables = {"ACKLEDGER_COMMIT": "0123456789abcdef"}

    called = await ackledger("--version", directory=directory, variables=variables)

    assert called.out.endswith("(commit 0123456789ab)\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_script_for_completion_is_printed(directory: Path, shell: str) -> None:
    variables = {"_ACKLEDGER_COMPLETE": f"source_{shell}"}

    called = await ackledger(directory=directory, variables=variables)

    assert called.code == 0
    assert f"_ACKLEDGER_COMPLETE=complete_{shell}" in called.out


async def test_commands_are_completed(directory: Path) -> None:
    variables = {
        "_ACKLEDGER_COMPLETE": "complete_bash",
        "COMP_WORDS": "ackledger rec",
        "COMP_CWORD": "1",
    }

    called = await ackledger(directory=directory, variables=variables)

    assert called.out.split() == ["reconcile"]
