"""The documents hold together: links lead somewhere, the glossary is in order."""

import re
from pathlib import Path
from typing import Final

from tests.house.source_tree import ROOT, project_files, relative

# [text](target), an address or a place on the same page left out.
_LINK: Final = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)[^)]*\)")
_CODE: Final = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def _documents() -> list[Path]:
    return [path for path in project_files() if path.suffix == ".md"]


def test_every_link_between_documents_leads_somewhere() -> None:
    broken = [
        f"{relative(path)} -> {target}"
        for path in _documents()
        for target in _LINK.findall(_CODE.sub("", path.read_text(encoding="utf-8")))
        if not (path.parent / target).exists()
    ]

    assert broken == []


def test_the_glossary_is_in_alphabetical_order() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = [word.lower() for word in re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE)]

    assert words
    assert sorted(words) == words


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs/decisions").glob("*.md"))]

    assert numbers == list(range(1, len(numbers) + 1))
