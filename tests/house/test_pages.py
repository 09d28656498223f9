"""The console's templates: no script or style but our files, and every field labelled."""

import hashlib
import re
from pathlib import Path
from typing import Final

_CONSOLE: Final = Path(__file__).resolve().parents[2] / "console"
_TEMPLATES: Final = sorted((_CONSOLE / "templates").glob("*.html"))


def test_no_template_has_a_script_or_a_style_in_it_or_an_address_elsewhere() -> None:
    found = [
        f"{path.name}: {match[0]}"
        for path in _TEMPLATES
        for match in re.finditer(
            r"<script(?! src=\"/static/[^\"]+\" defer></script>)|<style|\sstyle=|\son\w+=|https?://|\|\s*safe\b",
            path.read_text(),
        )
    ]

    assert found == []


def test_every_visible_field_has_a_label() -> None:
    for path in _TEMPLATES:
        text = path.read_text()
        labels = set(re.findall(r'<label for="([^"]+)"', text))
        for field in re.findall(r"<input [^>]*>", text):
            if 'type="hidden"' in field:
                continue
            found = re.search(r'\bid="([^"]+)"', field)
            assert found is not None, f"{path.name}: {field}"
            assert found[1] in labels, f"{path.name}: {field}"


def test_the_style_names_no_host() -> None:
    assert "url(" not in (_CONSOLE / "static/console.css").read_text()


def test_what_others_wrote_is_as_they_wrote_it_and_has_its_licence() -> None:
    lists = sorted((_CONSOLE / "static").glob("*/SHA256SUMS"))
    assert lists
    for sums in lists:
        listed = dict(line.split("  ")[::-1] for line in sums.read_text().splitlines())
        found = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sums.parent.iterdir()
            if path != sums
        }
        assert found == listed
        assert "LICENSE" in found
