"""No file names one machine's folders or a package registry's host."""

import re
from pathlib import Path
from typing import Final

from tests.house.source_tree import project_files, relative

# Put together from parts, so that this file does not hold them itself.
_HOSTS: Final = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("proxy", "golang", "org"),
    )
]
_FOLDERS: Final = [f"/{name}/" for name in ("work", "root", "Users")]
# A folder counts only as the beginning of a path: 'https://host/work/' and 'a/work/' are others'.
_FORBIDDEN: Final = re.compile(
    "|".join(map(re.escape, _HOSTS)) + r"|(?<![\w./-])(?:" + "|".join(_FOLDERS) + ")"
)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []  # a picture or another binary file


def test_no_file_names_a_machine_s_folders_or_a_registry_s_host() -> None:
    found = [
        f"{relative(path)}:{number} {match.group()}"
        for path in project_files()
        for number, line in enumerate(_lines(path), start=1)
        for match in [_FORBIDDEN.search(line)]
        if match
    ]

    assert found == []
