"""Alerts and rules speak of metrics that there are; each alert has its runbook and its tests."""

import re
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[2]
_RULES: Final = [
    *sorted((_ROOT / "deploy/prometheus/rules").glob("*.yml")),
    *sorted((_ROOT / "deploy/grafana/dashboards").glob("*.json")),
]
_ALERTS: Final = re.findall(
    r"^ +- alert: (\w+)$", (_ROOT / "deploy/prometheus/rules/alerts.yml").read_text(), re.MULTILINE
)
_SUFFIX: Final = re.compile(r"_(bucket|sum|count)$")


def test_every_metric_of_a_rule_is_served() -> None:
    served = set(re.findall(r"^\| `(\w+)`", (_ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    # What stands as a label's value is none: the replication slot's name, for one.
    named = {
        name for path in _RULES for name in re.findall(r'(?<!=")\backledger_\w+', path.read_text())
    }

    assert named
    assert {name for name in named if _SUFFIX.sub("", name) not in served} == set()


def test_every_alert_has_a_runbook_and_two_tests() -> None:
    runbooks = (_ROOT / "docs/runbooks.md").read_text()
    tests = (_ROOT / "deploy/prometheus/tests/alerts.yml").read_text()

    assert _ALERTS
    for alert in _ALERTS:
        assert f"\n## {alert}\n" in runbooks
        assert f"- name: {alert} fires\n" in tests
        assert f"- name: {alert} is quiet\n" in tests


def test_every_runbook_is_of_an_alert() -> None:
    headings = re.findall(r"^## (\w+)$", (_ROOT / "docs/runbooks.md").read_text(), re.MULTILINE)

    assert headings == _ALERTS
