"""The pages of the documentation, as HTML: /docs and, from the AsyncAPI document, /docs/events.

They are written when the documents are, and served as they stand: the ingress renders nothing.
"""

import json
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from contracts.operations.service import (
    ASYNCAPI_PATH,
    COLLECTION_PATH,
    DOCS_PATH,
    EVENTS_PAGE_PATH,
    OPENAPI_PATH,
)

Json = dict[str, Any]

STATIC: Final = Path(__file__).parents[2] / "ingress" / "static" / "docs"
_TEMPLATES: Final = Path(__file__).parent / "pages"
_PAGES: Final = (
    (DOCS_PATH, "HTTP API"),
    (EVENTS_PAGE_PATH, "Messages and events"),
    (OPENAPI_PATH, "OpenAPI"),
    (ASYNCAPI_PATH, "AsyncAPI"),
    (COLLECTION_PATH, "Postman collection"),
)
_MARKDOWN: Final = MarkdownIt("commonmark", {"html": False}).enable("table")
_TYPES: Final = {"string": "text", "array": "list", "object": "object", "null": "null"}


def render_pages(*, asyncapi: Json) -> dict[Path, str]:
    """Return each page by its file."""
    release = asyncapi["info"]["version"]
    return {
        STATIC / "docs.html": _rendered("docs.html", here=DOCS_PATH, release=release),
        STATIC / "events.html": _rendered(
            "events.html", here=EVENTS_PAGE_PATH, release=release, **_Asyncapi(asyncapi).parts()
        ),
    }


def _rendered(name: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(pages=_PAGES, **values)


class _Asyncapi:
    """A document, as the template shows its parts."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._messages = {
            f"#/components/messages/{key}": self._message(key, message)
            for key, message in document["components"]["messages"].items()
        }
        self._channels = {
            f"#/channels/{key}": self._channel(key, channel)
            for key, channel in document["channels"].items()
        }

    def parts(self) -> Json:
        """Return what the template names."""
        document = self._document
        return {
            "introduction": _prose(document["info"]["description"]),
            "server": document["servers"]["broker"],
            "operations": [self._operation(one) for one in document["operations"].values()],
            "channels": list(self._channels.values()),
            "messages": list(self._messages.values()),
            "schemas": [
                _schema(name, schema) for name, schema in document["components"]["schemas"].items()
            ],
        }

    def _operation(self, operation: Json) -> Json:
        channel = self._document["channels"][operation["channel"]["$ref"].rpartition("/")[2]]
        names = [one["$ref"].rpartition("/")[2] for one in operation["messages"]]
        is_received = operation["action"] == "receive"
        return {
            "who": "Ackledger receives" if is_received else "Ackledger sends",
            "channel": self._channels[operation["channel"]["$ref"]],
            "messages": [self._messages[channel["messages"][name]["$ref"]] for name in names],
            "summary": operation["summary"],
        }

    def _channel(self, key: str, channel: Json) -> Json:
        binding = channel.get("bindings", {}).get("amqp", {})
        facts = [("address", _code(channel["address"]))] if channel["address"] else []
        for kind in ("exchange", "queue"):
            for name, value in binding.get(kind, {}).items():
                shown = _code(json.dumps(value)) if isinstance(value, dict | bool) else _code(value)
                facts.append((f"{kind}: {name}", shown))
        return {
            "anchor": f"channel-{key}",
            "title": channel.get("title") or channel["address"] or key,
            "description": _line(channel["description"]),
            "facts": facts,
            "parameters": _rows({"properties": channel.get("parameters", {})}),
            "messages": [self._messages[one["$ref"]] for one in channel["messages"].values()],
        }

    @staticmethod
    def _message(key: str, message: Json) -> Json:
        facts = [("payload", _type(message["payload"]))]
        if "contentType" in message:
            facts.insert(0, ("content type", _code(message["contentType"])))
        return {
            "anchor": f"message-{key}",
            "name": message["name"] if key != "requested_batch" else f"{message['name']} (batch)",
            "title": message["title"],
            "facts": facts,
            "headers": _rows(message.get("headers", {})),
            "properties": _rows(message.get("x-amqp-properties", {})),
            "examples": [
                json.dumps(one["payload"], indent=2, ensure_ascii=False)
                for one in message.get("examples", ())
            ],
        }


def _schema(name: str, schema: Json) -> Json:
    return {
        "anchor": _anchor(name),
        "name": name,
        "description": _line(schema.get("description", "")),
        "fields": _rows(schema),
        "type": _type(schema),
    }


def _rows(schema: Json) -> list[Json]:
    return [
        {
            "name": name,
            "is_required": name in schema.get("required", ()),
            "type": _type(one),
            "description": _meaning(one),
        }
        for name, one in schema.get("properties", {}).items()
    ]


def _meaning(schema: Json) -> Markup:
    parts = [_line(schema["description"])] if "description" in schema else []
    if "default" in schema:
        parts.append(Markup("Default: {}").format(_code(json.dumps(schema["default"]))))
    if "examples" in schema:
        examples = Markup(", ").join(map(_code, schema["examples"]))
        parts.append(Markup("Such as {}").format(examples))
    return Markup(". ").join(parts)


def _type(schema: Json) -> Markup:
    """Return the type of a value in words, with a link where it stands elsewhere on the page."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return Markup('<a href="#{}">{}</a>').format(_anchor(name), name)
    if "const" in schema:
        return _code(json.dumps(schema["const"]))
    if "enum" in schema:
        return Markup(", ").join(map(_code, schema["enum"]))
    if "anyOf" in schema and "type" not in schema:
        return Markup(" or ").join(_type(one) for one in schema["anyOf"])
    if schema.get("type") == "array" and "items" in schema:
        return Markup("list of {}").format(_type(schema["items"]))
    kind = schema.get("type")
    if kind is None:
        return escape("anything" if not schema.get("description") else "text")
    named = _TYPES.get(kind, kind)
    return escape(f"{named} ({schema['format']})" if "format" in schema else named)


def _anchor(name: str) -> str:
    return f"schema-{name}"


def _code(text: Any) -> Markup:
    return Markup("<code>{}</code>").format(text)


def _prose(text: str) -> Markup:
    # The renderer writes no HTML of the text's own.
    return Markup(_MARKDOWN.render(text))  # noqa: S704


def _line(text: str) -> Markup:
    return Markup(_MARKDOWN.renderInline(text))  # noqa: S704
