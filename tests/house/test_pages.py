"""The console's templates: no script, no style, no host but our own, and every field labelled."""

import re
from pathlib import Path
from typing import Final

_CONSOLE: Final = Path(__file__).resolve().parents[2] / "console"
_TEMPLATES: Final = sorted((_CONSOLE / "templates").glob("*.html"))


def test_no_template_has_a_script_a_style_or_an_address_elsewhere() -> None:
    found = [
        f"{path.name}: {match[0]}"
        for path in _TEMPLATES
        for match in re.finditer(
            r"<script|<style|\sstyle=|\son\w+=|https?://|\|\s*safe\b", path.read_text()
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
