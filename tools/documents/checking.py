"""Whether a document keeps its standard: by the official schemas, without a network."""

import json
from pathlib import Path
from typing import Any, Final

import jsonschema
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry
from referencing.jsonschema import DRAFT7

from tools.documents.collection import SCHEMA, faults_of_collection

_ASYNCAPI_SCHEMA: Final = Path(__file__).parent / "vendor" / "asyncapi-3.0.0.json"


def faults_of(name: str, document: dict[str, Any]) -> list[str]:
    """Return what is wrong with a document, a sentence a fault; none when it is valid."""
    if "openapi" in document:
        errors = OpenAPIV31SpecValidator(document).iter_errors()
    elif "asyncapi" in document:
        errors = _asyncapi_validator().iter_errors(document)
    elif document.get("info", {}).get("schema") == SCHEMA:
        return list(faults_of_collection(document))
    else:
        return [f"{name} is of no known kind"]
    return [f"{error.json_path}: {error.message[:300]}" for error in errors]


def _asyncapi_validator() -> jsonschema.Draft7Validator:
    schema = json.loads(_ASYNCAPI_SCHEMA.read_text(encoding="utf-8"))
    # A registry of our own: the default one would fetch an unknown reference.
    draft7 = DRAFT7.create_resource(jsonschema.Draft7Validator.META_SCHEMA)
    registry = Registry[Any]().with_resource("http://json-schema.org/draft-07/schema", draft7)
    return jsonschema.Draft7Validator(schema, registry=registry)
