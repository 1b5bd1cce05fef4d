"""A function's parameters: their JSON Schema, and how JSON values become arguments."""

import functools
import inspect
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import from_json, to_json

from sidecall._context import ToolContext
from sidecall._convert import (
    Converter,
    convert_all,
    converter_for,
    narrower,
    strict_converter,
)
from sidecall._errors import ArgumentError, ToolDefinitionError
from sidecall._json_schema import SchemaGenerator, is_closed
from sidecall._typed_dicts import readable_typed_dicts

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a function takes.

    Attributes:
        schema: JSON Schema (2020-12) of its arguments.
        context: Name of the parameter that takes the ToolContext; None without one.
        prepare: Converts valid JSON values to the function's types; None where nothing
            is to be converted.
        check: As `prepare`, but checks everything: for arguments that nobody validated.
    """

    schema: JsonObject
    context: str | None
    prepare: Callable[[JsonObject], JsonObject] | None
    check: Callable[[JsonObject], JsonObject]


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    annotation: Any
    default: Any
    adapter: TypeAdapter[Any]

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


def read_parameters(
    function: Callable[..., Any],
    tool_name: str,
    descriptions: Mapping[str, str],
    local_names: Mapping[str, Any],
) -> Parameters:
    """Reads the parameters of a function.

    Args:
        function: The function.
        tool_name: For messages.
        descriptions: Descriptions of arguments from the docstring.
        local_names: Names that annotations may use beside the module's.

    Raises:
        ToolDefinitionError: A parameter cannot be filled from a JSON object.
        NameError: An annotation names something that is not defined yet.
    """
    context, parameters = _split(function, tool_name, _hints(function, local_names))
    schema = _object_schema(parameters, tool_name, descriptions)
    closed = is_closed(schema)
    conversions = [
        (parameter.name, convert)
        for parameter in parameters
        if (convert := converter_for(parameter.annotation, parameter.adapter, closed=closed))
        is not None
    ]
    return Parameters(
        schema=schema,
        context=context,
        prepare=functools.partial(convert_all, conversions) if conversions else None,
        check=_checker(parameters, schema, closed=closed),
    )


def explicit_parameters(
    function: Callable[..., Any], tool_name: str, schema: Mapping[str, Any]
) -> Parameters:
    """The parameters of a function whose schema is given.

    Raises:
        ToolDefinitionError: The schema is not the JSON Schema of an object.
    """
    if not isinstance(schema, Mapping) or schema.get("type") != "object":
        raise ToolDefinitionError(
            f'tool {tool_name!r}: input_schema must be an object schema ("type": "object")'
        )
    try:
        copied: JsonObject = from_json(to_json(schema))
    except ValueError as error:
        raise ToolDefinitionError(f"tool {tool_name!r}: input_schema is not JSON") from error
    narrow = narrower(copied)
    return Parameters(copied, _context_of(function), narrow, narrow or dict)


def underlying(function: Callable[..., Any]) -> Any:
    """The plain function inside partials, bound methods, wrappers and callable objects."""
    target: Any = function
    while True:
        if isinstance(target, functools.partial):
            target = target.func
        elif isinstance(target, types.MethodType):
            target = target.__func__
        elif hasattr(target, "__wrapped__"):
            target = target.__wrapped__
        elif not isinstance(target, type) and isinstance(type(target).__call__, types.FunctionType):
            target = type(target).__call__
        else:
            return target


def _hints(function: Callable[..., Any], local_names: Mapping[str, Any]) -> JsonObject:
    target = underlying(function)
    # The return annotation may name what only a type checker imports.
    wanted = {k: v for k, v in getattr(target, "__annotations__", {}).items() if k != "return"}
    holder = types.SimpleNamespace(__annotations__=wanted)
    return get_type_hints(
        holder, getattr(target, "__globals__", {}), dict(local_names), include_extras=True
    )


def _context_of(function: Callable[..., Any]) -> str | None:
    """The parameter for the context; annotations that cannot be resolved are not it."""
    target = underlying(function)
    names = getattr(target, "__globals__", {})
    for name, annotation in getattr(target, "__annotations__", {}).items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hint = get_type_hints(holder, names, {})[name]
        except NameError:
            continue
        if name != "return" and _is_context(hint):
            return str(name)
    return None


def _split(
    function: Callable[..., Any], tool_name: str, hints: Mapping[str, Any]
) -> tuple[str | None, list[_Parameter]]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise ToolDefinitionError(
            f"tool {tool_name!r}: {function!r} has no readable signature; wrap it in a function"
        ) from None
    bound = function.keywords if isinstance(function, functools.partial) else {}
    context: str | None = None
    parameters: list[_Parameter] = []
    for name, parameter in signature.parameters.items():
        if name in bound:
            continue
        _refuse_kind(tool_name, function, parameter, first=not parameters and context is None)
        annotation = hints.get(name, inspect.Parameter.empty)
        if _is_context(annotation):
            if context is not None:
                raise ToolDefinitionError(f"tool {tool_name!r} has two ToolContext parameters")
            context = name
        else:
            parameters.append(_parameter(tool_name, parameter, annotation))
    return context, parameters


def _refuse_kind(
    tool_name: str, function: Callable[..., Any], parameter: inspect.Parameter, first: bool
) -> None:
    problems: dict[Any, str] = {
        inspect.Parameter.VAR_POSITIONAL: f"*{parameter.name} has no name in a JSON object; "
        "use a list parameter",
        inspect.Parameter.VAR_KEYWORD: f"**{parameter.name} has no schema; name the parameters, "
        "or use a dict parameter, or Tool(..., input_schema=...)",
        inspect.Parameter.POSITIONAL_ONLY: f"{parameter.name!r} is positional-only; "
        "arguments are passed by name",
    }
    problem = problems.get(parameter.kind)
    in_class = "." in getattr(function, "__qualname__", "").rpartition("<locals>.")[2]
    if first and in_class and parameter.name in ("self", "cls"):
        problem = "it is a method without its object; make the tool from the bound method, "
        problem += "tool(obj.method)"
    if problem:
        raise ToolDefinitionError(f"tool {tool_name!r}: {problem}")


def _is_context(annotation: Any) -> bool:
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return any(_is_context(item) for item in get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, ToolContext)


def _parameter(tool_name: str, parameter: inspect.Parameter, annotation: Any) -> _Parameter:
    name, default = parameter.name, parameter.default
    annotation = readable_typed_dicts(annotation)
    if isinstance(default, FieldInfo):
        raise ToolDefinitionError(
            f"tool {tool_name!r}: parameter {name!r}: write "
            f"`{name}: Annotated[..., Field(...)] = default` instead of a Field as the default"
        )
    adapter = _adapter(tool_name, name, annotation)
    if default is None and not _accepts_none(adapter):
        annotation = Union[annotation, None]  # noqa: UP007  not every form has an operator
        adapter = _adapter(tool_name, name, annotation)
    return _Parameter(name, annotation, default, adapter)


def _adapter(tool_name: str, name: str, annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(Any if annotation is inspect.Parameter.empty else annotation)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        reason = str(error).split(".", 1)[0].split("\n", 1)[0]
        raise ToolDefinitionError(
            f"tool {tool_name!r}: parameter {name!r} has the type {_shown(annotation)}, "
            f"which JSON cannot carry ({reason})"
        ) from error


def _accepts_none(adapter: TypeAdapter[Any]) -> bool:
    try:
        adapter.validate_json("null", strict=True)
    except ValueError:
        return False
    return True


def _object_schema(
    parameters: list[_Parameter], tool_name: str, descriptions: Mapping[str, str]
) -> JsonObject:
    try:
        schemas, shared = TypeAdapter.json_schemas(
            [(parameter.name, "validation", parameter.adapter) for parameter in parameters],
            schema_generator=SchemaGenerator,
        )
    except PydanticUserError as error:
        if error.code == "class-not-fully-defined":
            raise NameError(str(error)) from error
        raise ToolDefinitionError(
            f"tool {tool_name!r} has a parameter that JSON cannot carry: "
            f"{str(error).splitlines()[0]}"
        ) from error
    properties: JsonObject = {}
    required: list[str] = []
    for parameter in parameters:
        schema = dict(schemas[parameter.name, "validation"])
        text = _description(parameter.annotation) or descriptions.get(parameter.name)
        if text:
            schema["description"] = text
        if not parameter.required:
            schema |= _default_of(parameter)
        elif "default" not in schema:
            required.append(parameter.name)
        properties[parameter.name] = schema
    result: JsonObject = {"type": "object", "properties": properties}
    if required:
        result["required"] = required
    result["additionalProperties"] = False
    if "$defs" in shared:
        result["$defs"] = shared["$defs"]
    return result


def _default_of(parameter: _Parameter) -> JsonObject:
    """The default as JSON Schema has it; empty where JSON cannot express it."""
    default = parameter.default
    if isinstance(default, float) and not math.isfinite(default):
        return {}
    try:
        text = to_json(default)
        parameter.adapter.validate_json(text, strict=True)
    except ValueError:
        return {}
    return {"default": from_json(text)}


def _description(annotation: Any) -> str | None:
    """The description in `Annotated[T, "text"]`, `Doc("text")` or `Field(description=...)`."""
    if get_origin(annotation) is Annotated:
        for item in get_args(annotation)[1:]:
            text = getattr(item, "description", None) or getattr(item, "documentation", None)
            if isinstance(item, str) or isinstance(text, str):
                return str(text or item)
    elif get_origin(annotation) in (Union, types.UnionType):
        return next((text for item in get_args(annotation) if (text := _description(item))), None)
    return None


def _checker(
    parameters: list[_Parameter], schema: JsonObject, *, closed: bool
) -> Callable[[JsonObject], JsonObject]:
    converters: list[tuple[str, Converter]] = [
        (parameter.name, strict_converter(parameter.adapter, closed=closed))
        for parameter in parameters
    ]
    known = [parameter.name for parameter in parameters]
    required = schema.get("required", [])

    def check(arguments: JsonObject) -> JsonObject:
        violations = [
            (f"/{name}", f"is not a parameter; known are {', '.join(known) or 'none'}")
            for name in arguments
            if name not in known
        ]
        violations += [("", f"{name!r} is required") for name in required if name not in arguments]
        if violations:
            raise ArgumentError(violations)
        return convert_all(converters, arguments)

    return check


def _shown(annotation: Any) -> str:
    return getattr(annotation, "__qualname__", None) or str(annotation)
