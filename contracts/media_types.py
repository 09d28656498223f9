"""Which bodies are JSON: one rule for both doors; pure."""

from typing import Final

_UTF_8: Final = frozenset({"utf-8", "utf8"})


def json_error(media_type: str, charset: str | None) -> str | None:
    """Return what is wrong with a body's type, None for JSON in UTF-8; case does not matter."""
    kind = media_type.lower()
    if kind != "application/json" and not kind.endswith("+json"):
        return f"the content type is '{media_type}', and only application/json is read"
    if charset and charset.lower() not in _UTF_8:
        return f"the charset is '{charset}', and JSON is UTF-8"
    return None


def content_type_error(content_type: str) -> str | None:
    """Return what is wrong with a whole content type, parameters included; None if nothing is."""
    media_type, _, parameters = content_type.partition(";")
    charset = None
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = value.strip().strip('"')
    return json_error(media_type.strip(), charset)
