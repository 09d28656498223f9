"""Every setting is documented, and every documented setting exists."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Final

from runtime.service import settings
from tests.house.source_tree import PACKAGES, ROOT, python_files, relative, strings_of, tree_of

DOCUMENT: Final = ROOT / "docs" / "configuration.md"
_PLAIN: Final = frozenset({"DATABASE_URL", "AMQP_URL", "REDIS_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"})
_VARIABLE: Final = re.compile(rf"\b({settings.PREFIX}[A-Z0-9_]*[A-Z0-9]|{'|'.join(_PLAIN)})\b")


def _settings_classes() -> list[type[settings.GivenSettings]]:
    """Every model of settings of the product, in whatever module it stands."""
    found = []
    for path in python_files(*PACKAGES):
        if _defines_settings(path):
            module = import_module(relative(path).removesuffix(".py").replace("/", "."))
            for _, kind in inspect.getmembers(module, inspect.isclass):
                if issubclass(kind, settings.GivenSettings) and kind.__module__ == module.__name__:
                    found.append(kind)
    return found


def _defines_settings(path: Path) -> bool:
    return any(
        isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).endswith("Settings") for base in node.bases)
        for node in ast.walk(tree_of(path))
    )


def _variables_of_settings() -> set[str]:
    return {
        settings.variable_of(field, info.validation_alias)
        for kind in _settings_classes()
        for field, info in kind.model_fields.items()
    }


def _variables_in_code() -> set[str]:
    """Variables that the product names outright, such as those of the local stack."""
    return {
        text
        for path in python_files(*PACKAGES)
        for _, text in strings_of(path)
        if _VARIABLE.fullmatch(text)
    }


def _documented() -> set[str]:
    return _variables_in(DOCUMENT)


def _variables_in(path: Path) -> set[str]:
    return set(_VARIABLE.findall(path.read_text(encoding="utf-8")))


def test_every_setting_is_documented() -> None:
    known = _variables_of_settings() | _variables_in_code()

    assert known - _documented() == set()


def test_every_documented_setting_exists() -> None:
    known = _variables_of_settings() | _variables_in_code()

    assert _documented() - known == set()


def test_the_containers_are_given_settings_that_exist() -> None:
    given = _variables_in(ROOT / "docker-compose.yml")

    assert given - _variables_of_settings() == set()
