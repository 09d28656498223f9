"""JSON schemas of the contracts' models, as both documents hold them."""

import json
from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

Mode = Literal["validation", "serialization"]
Schema = dict[str, Any]

_REFERENCE: Final = "#/components/schemas/{model}"


class _Generator(GenerateJsonSchema):
    """Pydantic's own, without titles that repeat the name, and with JSON defaults for raw JSON."""

    def field_title_should_be_set(self, _schema: Any) -> bool:
        return False

    def encode_default(self, dft: Any) -> Any:
        # Metadata is kept as its canonical bytes; its schema and so its default is an object.
        return json.loads(dft) if isinstance(dft, bytes) else super().encode_default(dft)


def component_schemas(models: Sequence[tuple[type[BaseModel], Mode]]) -> dict[str, Schema]:
    """Return the schemas of the models and of all that they name, sorted by name."""
    _, definitions = models_json_schema(
        list(dict.fromkeys(models)), ref_template=_REFERENCE, schema_generator=_Generator
    )
    schemas = {name: _untitled(schema) for name, schema in definitions["$defs"].items()}
    return dict(sorted(schemas.items()))


def reference(model: type[BaseModel]) -> Schema:
    """Return the reference to a model's schema."""
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _untitled(schema: Schema) -> Schema:
    """The component's name is its title."""
    return {key: value for key, value in schema.items() if key != "title"}
