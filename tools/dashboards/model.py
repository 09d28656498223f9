"""A dashboard as Grafana reads it, made of rows of panels; pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_WIDTH: Final = 24
_HEIGHT: Final = 8
_SCHEMA_VERSION: Final = 39


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: what it shows, in Grafana's word for the unit, and each line's expression."""

    title: str
    description: str
    unit: str
    lines: Mapping[str, str]
    """By legend, in which {{label}} stands for a label's value."""
    kind: str = "timeseries"
    thresholds: Sequence[tuple[str, float]] = field(default_factory=tuple)
    """Colours from a value on."""
    has_exemplars: bool = False
    """Whether its metric names traces."""
    console_path: str | None = None
    """The console's page about the same."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page."""

    uid: str
    title: str
    panels: Sequence[Panel]
    per_row: int = 3

    def to_json(self) -> dict[str, Any]:
        """Return what Grafana imports."""
        width = _WIDTH // self.per_row
        return {
            "uid": self.uid,
            "title": self.title,
            "tags": ["ackledger"],
            "timezone": "utc",
            "schemaVersion": _SCHEMA_VERSION,
            "editable": False,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "links": [_LINK, *(_link_to(title, url) for title, url in _PLACES)],
            "templating": {"list": [_SOURCE_VARIABLE, *_ADDRESS_VARIABLES]},
            "panels": [
                _panel(one, number, width=width, per_row=self.per_row)
                for number, one in enumerate(self.panels)
            ],
        }

    @property
    def text(self) -> str:
        """The file, the same bytes for the same tables."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"


_LINK: Final = {
    "title": "Ackledger",
    "type": "dashboards",
    "tags": ["ackledger"],
    "asDropdown": True,
    "keepTime": True,
}
_SOURCE_VARIABLE: Final = {
    "name": "source",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "current": {},
}


def _address_variable(name: str, label: str, usual: str) -> dict[str, Any]:
    """Return what holds an address that dashboards link to; anybody may type another."""
    current = {"text": usual, "value": usual}
    return {
        "name": name,
        "label": label,
        "type": "textbox",
        "query": usual,
        "current": current,
        "options": [{**current, "selected": True}],
    }


_ADDRESS_VARIABLES: Final = (
    _address_variable("traces", "Traces", "http://127.0.0.1:16686"),
    _address_variable("console", "Console", "http://127.0.0.1:8090"),
)
_PLACES: Final = (
    ("Traces", "${traces}/search?service=ackledger-processor"),
    ("Console", "${console}/"),
)


def _link_to(title: str, url: str) -> dict[str, Any]:
    return {
        "title": title,
        "type": "link",
        "url": url,
        "icon": "external link",
        "targetBlank": True,
        "keepTime": False,
        "includeVars": False,
        "asDropdown": False,
        "tags": [],
    }


def _panel(panel: Panel, number: int, *, width: int, per_row: int) -> dict[str, Any]:
    row, column = divmod(number, per_row)
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": value} for color, value in panel.thresholds]
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": {"x": column * width, "y": row * _HEIGHT, "w": width, "h": _HEIGHT},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                **({"links": [_link_in(panel.console_path)]} if panel.console_path else {}),
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}}
        if panel.kind == "timeseries"
        else {"reduceOptions": {"calcs": ["lastNotNull"]}},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "expr": expression,
                "legendFormat": legend,
                "exemplar": panel.has_exemplars,
            }
            for at, (legend, expression) in enumerate(panel.lines.items())
        ],
    }


def _link_in(path: str) -> dict[str, Any]:
    return {"title": "In the console", "url": "${console}" + path, "targetBlank": True}
