"""The wheel and the image hold the product, all of it, and neither its tools nor its tests."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import pytest

from tests.house.source_tree import (
    PRODUCT,
    PROJECT,
    ROOT,
    WHEEL_PACKAGES,
    project_files,
    relative,
)

_BUILD_BOUND_S: Final = 120
_NOT_SHIPPED: Final = frozenset({"tests", "tools"})
_OTHER_FILES: Final = frozenset({"LICENSE", "README.md", "pyproject.toml"})


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=_BUILD_BOUND_S,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> list[str]:
    """The names in it."""
    return ZipFile(wheel_file).namelist()


def _called(installed: Path, argument: str) -> str:
    """Run the command as an installation of the wheel has it, whatever else is on the path."""
    module = PROJECT["project"]["scripts"]["ackledger"].partition(".")[0]
    return subprocess.run(
        [sys.executable, "-P", "-m", module, argument],
        cwd=installed,
        env={"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=_BUILD_BOUND_S,
    ).stdout


def _metadata_folder() -> str:
    project = PROJECT["project"]
    return f"{project['name']}-{project['version']}.dist-info"


def test_the_wheel_holds_the_product_s_packages_and_nothing_else(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}

    assert tops == {*WHEEL_PACKAGES, _metadata_folder()}
    assert tops & _NOT_SHIPPED == set()


def test_the_wheel_holds_every_file_of_these_packages(wheel: list[str]) -> None:
    """Statements, scripts, pages and migrations, not only modules."""
    expected = {
        relative(path) for path in project_files() if relative(path).split("/")[0] in WHEEL_PACKAGES
    }

    missing = {name for name in expected - set(wheel) if "/." not in name}

    assert missing == set()
    assert "ingress/queries.sql" in expected


def test_every_package_at_the_top_is_shipped_or_known_not_to_be() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}

    assert packages - _NOT_SHIPPED == set(PRODUCT)


@pytest.mark.parametrize("package", PRODUCT)
def test_type_checkers_of_others_may_read_our_types(wheel: list[str], package: str) -> None:
    assert f"{package}/py.typed" in wheel


def test_the_image_is_built_from_what_the_wheel_holds() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}

    assert "*" in lines
    assert let_in == {*WHEEL_PACKAGES, *_OTHER_FILES, "requirements/production.lock"}


def test_the_image_tells_the_release_and_the_commit_it_is_made_from() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")

    assert re.findall(r"^ARG VERSION=(\S+)$", dockerfile, re.MULTILINE) == [
        PROJECT["project"]["version"]
    ]
    assert "ACKLEDGER_COMMIT=${REVISION}" in dockerfile


def test_what_the_image_copies_exists() -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
    ]

    assert sources
    assert [source for source in sources if not Path(ROOT, source).exists()] == []


def test_an_installation_has_the_product_s_commands_and_says_so_when_it_knows_no_commit(
    wheel_file: Path, tmp_path: Path
) -> None:
    ZipFile(wheel_file).extractall(tmp_path)

    version = PROJECT["project"]["version"]
    assert _called(tmp_path, "--version") == f"ackledger {version} (commit unknown)\n"
    commands = set(re.findall(r"^  ([a-z-]+)  ", _called(tmp_path, "--help"), re.MULTILINE))
    assert {"serve", "migrate", "verify"} <= commands
    assert commands & {"run", "demo", "stack", "chaos", "bench"} == set()
