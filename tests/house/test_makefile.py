"""`make help` lists every target, and CI runs the commands that people run."""

import re
import subprocess
from typing import Final

from tests.house.source_tree import ROOT

_BOUND_S: Final = 30


def _phony_targets() -> set[str]:
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    return {
        target
        for line in lines
        if line.startswith(".PHONY:")
        for target in line.removeprefix(".PHONY:").split()
    }


def _help() -> str:
    # A make of its own: what the outer one, which may run this test, hands down is left out.
    return subprocess.run(
        ["make", "--no-print-directory", "-C", str(ROOT), "help"],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
        timeout=_BOUND_S,
    ).stdout


def test_make_help_lists_every_target() -> None:
    listed = set(re.findall(r"^\W*(?:\x1b\[1m)?([a-z][a-z-]*)", _help(), re.MULTILINE))

    assert _phony_targets() - listed == set()


def test_every_target_with_a_line_of_help_is_phony() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    explained = set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))

    assert explained == _phony_targets()


def test_ci_runs_the_checks_and_both_suites_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]

    assert commands == ["make check", "make test TOOLS=1"]
