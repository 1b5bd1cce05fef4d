"""JSON Schemas of types: pydantic's, with every object closed that does not say otherwise."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema


class SchemaGenerator(GenerateJsonSchema):
    """Pydantic's generator for what a model reads.

    Objects take no unknown fields unless their class allows them (`extra="allow"`), and the
    titles that only repeat the fields' names are left out.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Says no."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """The schema of a pydantic model."""
        return _closed(super().model_schema(schema))

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        """The schema of a dataclass."""
        return _closed(super().dataclass_schema(schema))

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        """The schema of a TypedDict."""
        return _closed(super().typed_dict_schema(schema))


def is_closed(schema: object) -> bool:
    """Whether no object with named fields, at any depth, takes unknown ones."""
    if isinstance(schema, list):
        return all(map(is_closed, schema))
    if not isinstance(schema, dict):
        return True
    if _has_named_fields(schema) and schema.get("additionalProperties") is not False:
        return False
    return all(map(is_closed, schema.values()))


def _has_named_fields(schema: JsonSchemaValue) -> bool:
    return schema.get("type") == "object" and "properties" in schema


def _closed(schema: JsonSchemaValue) -> JsonSchemaValue:
    # A model of a single value (RootModel) has the schema of that value.
    if _has_named_fields(schema):
        schema.setdefault("additionalProperties", False)
    return schema
