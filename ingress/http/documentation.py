"""The pages and the documents: /docs and what it links to, offline."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATIC_PATH: Final = "/docs/static/{name}"
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

# Asked for at each use and answered with 304: a new release shows at once.
_CACHE_CONTROL: Final = "no-cache"
_STATIC: Final = Path(__file__).parents[1] / "static"
_STATIC_FILES: Final = {
    "swagger-ui.css": "swagger-ui",
    "swagger-ui-bundle.js": "swagger-ui",
    "docs.css": "docs",
    "events.css": "docs",
    "docs.js": "docs",
    "icon.svg": "docs",
}
_PAGES: Final = {"read_docs_page": "docs.html", "read_events_page": "events.html"}
_DOCUMENTS: Final = {
    "read_openapi_document": "openapi.json",
    "read_asyncapi_document": "asyncapi.json",
    "read_collection": "postman_collection.json",
}
_HEADERS: Final = {"Cache-Control": _CACHE_CONTROL, "X-Content-Type-Options": "nosniff"}
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class _Document:
    body: bytes
    etag: str
    content_type: str
    headers: Mapping[str, str]

    def answer(self, request: web.Request) -> web.Response:
        """Return the document, or 304 to a client whose copy is current."""
        known = request.if_none_match or ()
        if any(tag.value in (self.etag, "*") for tag in known):
            response = web.Response(status=304, headers=self.headers)
        else:
            response = web.Response(
                body=self.body,
                content_type=self.content_type,
                charset="utf-8" if self.content_type == "text/html" else None,
                headers=self.headers,
            )
        response.etag = self.etag
        return response


class Documentation:
    """Pages and documents, in memory, with their ETags."""

    def __init__(self, *, pages: Mapping[str, bytes], documents: Mapping[str, bytes]) -> None:
        """Both by the operation_id of the table of operations."""
        self._documents = {
            name: _document(page, "text/html", _PAGE_HEADERS) for name, page in pages.items()
        } | {name: _document(body, "application/json") for name, body in documents.items()}

    @property
    def handlers(self) -> dict[str, Handler]:
        """Handlers by the operation_id of the table of operations."""
        return {name: _reading(document) for name, document in self._documents.items()}


def load_documentation() -> Documentation:
    """Return the documentation, read from the packages' files; raises OSError if one is missing."""
    documents = files("contracts") / "documents"
    return Documentation(
        pages={name: (_STATIC / "docs" / file).read_bytes() for name, file in _PAGES.items()},
        documents={name: (documents / file).read_bytes() for name, file in _DOCUMENTS.items()},
    )


def _reading(document: _Document) -> Handler:
    async def read(request: web.Request) -> web.StreamResponse:
        return document.answer(request)

    return read


def add_documentation(app: web.Application) -> None:
    """Add the route of the page's script, styles and icon; the calls stand in the table."""
    app.router.add_get(STATIC_PATH, _read_static_file)


async def _read_static_file(request: web.Request) -> web.FileResponse:
    """Return one of the page's files; only names that are listed reach the disk."""
    name = request.match_info["name"]
    if name not in _STATIC_FILES:
        raise web.HTTPNotFound
    return web.FileResponse(_STATIC / _STATIC_FILES[name] / name, headers=_HEADERS)


def _document(
    body: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> _Document:
    return _Document(
        body=body,
        # As an ETag, half a digest is plenty.
        etag=hashlib.sha256(body).hexdigest()[:32],
        content_type=content_type,
        headers={**_HEADERS, **(headers or {})},
    )
