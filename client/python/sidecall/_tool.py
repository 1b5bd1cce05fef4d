"""Tools: functions with a name, a description and a schema that a model can call."""

import contextlib
import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, ParamSpec, TypeVar, Unpack, overload

from sidecall._docstring import read_docstring
from sidecall._errors import ToolDefinitionError
from sidecall._policy import PolicyOptions, ToolPolicy, make_policy
from sidecall._schema import (
    JsonObject,
    Parameters,
    explicit_parameters,
    read_parameters,
    underlying,
)

P = ParamSpec("P")
R = TypeVar("R")

Kind = Literal["coroutine", "thread", "generator"]
Prepare = Callable[[JsonObject], JsonObject]

# References name tools, so a name holds neither space nor the characters that end an id.
_NAME = re.compile(r"(?!@)[^\s#${}<>\x00-\x1f\x7f]{1,128}")


@dataclasses.dataclass(frozen=True, slots=True)
class Declaration:
    """What the keywords of a tool say.

    Attributes:
        name: Name of the tool; None for the function's.
        description: What it does, for the model; None for the docstring's text.
        output_schema: JSON Schema of the result.
        policy: See PolicyOptions.
    """

    name: str | None
    description: str | None
    output_schema: Mapping[str, Any] | None
    policy: PolicyOptions


class Tool(Generic[P, R]):
    """A function that a model can call.

    Made by `@tool` from a typed function, or directly for functions that are made at run
    time. It can be called as the plain function.

    Attributes:
        name: Unique name.
        description: What it does, for the model.
        function: The plain function.
        kind: "coroutine", "generator" (asynchronous) or "thread" (everything else).
        policy: Declared limits and promises.
        output_schema: JSON Schema of the result, where declared.
    """

    def __init__(
        self,
        *,
        name: str,
        description: str,
        input_schema: Mapping[str, Any],
        call: Callable[P, R],
        output_schema: Mapping[str, Any] | None = None,
        **policy: Unpack[PolicyOptions],
    ) -> None:
        """Makes a tool with an explicit schema.

        Args:
            name: Unique name.
            description: What it does, for the model.
            input_schema: JSON Schema (2020-12) of the arguments: an object schema.
            call: Gets each argument by name, as the JSON value that it is; a parameter
                annotated with ToolContext gets the context.
            output_schema: JSON Schema of the result.
            **policy: See PolicyOptions.

        Raises:
            ToolDefinitionError: An argument is not allowed.
        """
        if not callable(call):
            raise ToolDefinitionError(f"tool {name!r}: {call!r} cannot be called")
        self._declare(call, Declaration(name, description, output_schema, policy))
        self._read = functools.partial(explicit_parameters, call, name, input_schema)
        self._resolve_now()

    @classmethod
    def from_function(
        cls,
        function: Callable[..., Any],
        declaration: "Declaration",
        local_names: Mapping[str, Any],
    ) -> "Tool[..., Any]":
        """Makes a tool whose schema is read from the function; `tool` is the way to it."""
        target = underlying(function)
        text, arguments = read_docstring(target)
        name = declaration.name
        if name is None:
            name = str(getattr(target, "__name__", ""))
        description = text if declaration.description is None else declaration.description
        made: Tool[..., Any] = cls.__new__(cls)
        made._declare(
            function, dataclasses.replace(declaration, name=name, description=description)
        )
        made._read = functools.partial(read_parameters, function, name, arguments, local_names)
        made._resolve_now()
        return made

    def _declare(self, function: Callable[..., Any], declaration: "Declaration") -> None:
        name = checked_name(declaration.name)
        if not isinstance(declaration.description, str | None):
            raise ToolDefinitionError(
                f"tool {name!r}: description must be text, not {declaration.description!r}"
            )
        functools.update_wrapper(self, underlying(function), updated=())
        self.name = name
        self.description = inspect.cleandoc(declaration.description or "")
        self.function: Callable[..., Any] = function
        self.kind: Kind = _kind(function)
        self.policy: ToolPolicy = make_policy(name, declaration.policy)
        self.output_schema = declaration.output_schema

    def _resolve_now(self) -> None:
        """Reads the parameters, unless they name what the module defines further down."""
        with contextlib.suppress(NameError):
            self.__dict__["parameters"] = self._read()
            del self._read

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the plain function."""
        result: R = self.function(*args, **kwargs)
        return result

    def __repr__(self) -> str:
        return f"Tool({self.name!r})"

    @functools.cached_property
    def parameters(self) -> Parameters:
        """What the function takes.

        Raises:
            ToolDefinitionError: An annotation names something that does not exist.
        """
        try:
            return self._read()
        except NameError as error:
            raise ToolDefinitionError(f"tool {self.name!r}: {_undefined(error)}") from error

    @property
    def input_schema(self) -> JsonObject:
        """JSON Schema (2020-12) of the arguments."""
        return self.parameters.schema

    @property
    def context_parameter(self) -> str | None:
        """Name of the parameter that takes the ToolContext; None without one."""
        return self.parameters.context

    @property
    def prepare(self) -> Prepare | None:
        """Converts validated JSON values to the function's types.

        It raises ArgumentError where a value does not fit, and is None where nothing is
        to be converted.
        """
        return self.parameters.prepare

    @property
    def location(self) -> str:
        """File and line of the function, for people."""
        code = getattr(underlying(self.function), "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.function)


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    output_schema: Mapping[str, Any] | None = None,
    **policy: Unpack[PolicyOptions],
) -> Tool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    output_schema: Mapping[str, Any] | None = None,
    **policy: Unpack[PolicyOptions],
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    output_schema: Mapping[str, Any] | None = None,
    **policy: Unpack[PolicyOptions],
) -> Any:
    """Makes a tool from a typed function: async, sync or an async generator.

    The schema comes from the signature; descriptions come from the docstring, from
    `Annotated[T, "text"]` or from `Field(description=...)`. It stands alone (`@tool`),
    takes keywords (`@tool(timeout="5s")`) or is called with a function (`tool(obj.method)`).

    Args:
        function: The function.
        name: Name of the tool; the function's where unset.
        description: What it does, for the model; the docstring's text where unset.
        output_schema: JSON Schema of the result.
        **policy: See PolicyOptions.

    Raises:
        ToolDefinitionError: The function cannot be called with a JSON object, or a
            keyword is not allowed.
    """
    frame = sys._getframe(1)  # noqa: SLF001  annotations may name the caller's local classes
    local_names = {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)
    declaration = Declaration(name, description, output_schema, policy)

    def decorate(target: Callable[..., Any]) -> Tool[..., Any]:
        if isinstance(target, (Tool, staticmethod, classmethod)) or not callable(target):
            raise ToolDefinitionError(f"@tool belongs on a plain function, not on {target!r}")
        return Tool.from_function(target, declaration, local_names)

    return decorate if function is None else decorate(function)


def _kind(function: Callable[..., Any]) -> Kind:
    called = function if inspect.isroutine(function) else type(function).__call__
    for candidate in (function, called):
        if inspect.isasyncgenfunction(candidate):
            return "generator"
        if inspect.iscoroutinefunction(candidate):
            return "coroutine"
    return "thread"


def checked_name(name: object) -> str:
    """A tool's name; raises ToolDefinitionError where no tool can have it."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ToolDefinitionError(
            f"{name!r} is not a name for a tool: 1 to 128 characters without space, "
            "or one of # $ { } < >, not beginning with @"
        )
    return name


def _undefined(error: NameError) -> str:
    name = getattr(error, "name", None)
    if not name:
        return str(error).splitlines()[0]
    return f"an annotation names {name!r}, which is not defined; is it imported only for types?"
