"""OpenAPI, AsyncAPI and the collection: made from the contracts, checked, stored beside them."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tools.documents.asyncapi import asyncapi_document
from tools.documents.collection import collection_document
from tools.documents.openapi import openapi_document

DIRECTORY: Final = Path(__file__).parents[2] / "contracts" / "documents"
OPENAPI: Final = "openapi.json"
ASYNCAPI: Final = "asyncapi.json"
COLLECTION: Final = "postman_collection.json"


def build_documents() -> dict[str, dict[str, Any]]:
    """Return each document by its file's name, the same bytes for the same contracts."""
    release = version("ackledger")
    openapi = openapi_document(release=release)
    return {
        OPENAPI: openapi,
        ASYNCAPI: asyncapi_document(release=release),
        COLLECTION: collection_document(openapi),
    }


def text_of(document: dict[str, Any]) -> str:
    """Return a document as it is stored: indented, for readable changes, with a last newline."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
