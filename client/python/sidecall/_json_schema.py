"""JSON Schemas of types: pydantic's, with every object closed that does not say otherwise."""

import inspect
import math
import types
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, NoDefault
from pydantic_core import core_schema

from sidecall._docstring import read_class_docstring

_CONSTANT_FACTORIES = (list, dict, str, int, float, bool)


class SchemaGenerator(GenerateJsonSchema):
    """Pydantic's generator for what a model reads.

    Objects take no unknown fields unless their class allows them (`extra="allow"`), and the
    titles that only repeat the fields' names are left out.
    """

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Says no."""
        return False

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        """The default of a field, also where a factory always makes the same JSON value."""
        factory: Any = schema.get("default_factory")
        if factory is not None:
            value = factory() if _is_constant(factory) else NoDefault
        else:
            value = super().get_default_value(schema)
            if not isinstance(value, float):
                return value
        return value if _is_json(value) else NoDefault

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """The schema of a pydantic model."""
        return _completed(super().model_schema(schema), schema["cls"])

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        """The schema of a dataclass."""
        return _completed(super().dataclass_schema(schema), schema["cls"])

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        """The schema of a TypedDict."""
        return _completed(super().typed_dict_schema(schema), schema.get("cls"))


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


def _completed(schema: JsonSchemaValue, cls: type[Any] | None) -> JsonSchemaValue:
    """The schema of a class, closed, with what its docstring says about its fields."""
    # A model of a single value (RootModel) has the schema of that value.
    if not _has_named_fields(schema):
        return schema
    schema.setdefault("additionalProperties", False)
    if cls is None:
        return schema
    summary, descriptions = read_class_docstring(cls)
    properties = schema["properties"]
    described = descriptions.keys() & properties.keys()
    for name in described:
        properties[name] = {"description": descriptions[name]} | properties[name]
    if described and summary and schema.get("description") == inspect.cleandoc(cls.__doc__ or ""):
        schema["description"] = summary
    return schema


def _is_constant(factory: Any) -> bool:
    """Whether a factory gives the same whenever it is called.

    A default in a schema is sent to every call, so a time or a new id must not stand there.
    """
    if any(factory is constant for constant in _CONSTANT_FACTORIES):
        return True
    code = getattr(factory, "__code__", None)
    return isinstance(code, types.CodeType) and not (
        code.co_names or code.co_freevars or code.co_varnames
    )


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (str, int))
