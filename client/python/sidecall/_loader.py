"""Loads the tools of Python files and modules."""

import contextlib
import os
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sidecall._errors import ToolDefinitionError
from sidecall._lifespan import Lifespan
from sidecall._modules import Modules, absolute, text_of
from sidecall._sources import is_path
from sidecall._tool import Tool

_OWN_FOLDER = f"{Path(__file__).parent}{os.sep}"


class ToolLoadError(Exception):
    """Tools cannot be loaded; the text says where and why, for the operator.

    Attributes:
        sources: Names of the files and modules that it is about, as they were given.
    """

    def __init__(self, text: str, *sources: str) -> None:
        """Takes what to say, and about what."""
        super().__init__(text)
        self.sources = sources


@dataclass(frozen=True, slots=True)
class LoadedSource:
    """The tools of one file or module.

    Attributes:
        name: The path or dotted name that was given.
        tools: The tools in the order of their definition.
        lifespan: Start-up and shutdown of what they share; None without one.
        text: What was executed; None where that is not known.
    """

    name: str
    tools: tuple[Tool[..., Any], ...]
    lifespan: Lifespan | None = None
    text: str | None = None


def load_sources(names: Sequence[str], modules: Modules | None = None) -> list[LoadedSource]:
    """Loads files and modules and checks that all names of tools differ.

    Args:
        names: Paths of Python files and dotted names of modules.
        modules: Says what is executed; what exists is not executed again where None. It
            is undone where this fails.

    Raises:
        ToolLoadError: One of them cannot be loaded, or two tools have one name.
    """
    modules = modules or Modules()
    try:
        sources = [load_source(name, modules) for name in names]
        check_names(sources)
    except BaseException:
        modules.undo()
        raise
    return sources


def load_source(name: str, modules: Modules | None = None) -> LoadedSource:
    """Loads every tool at the top level of a file (`city_tools.py`) or module (`app.tools`).

    Lists and tuples of tools at the top level count as well.

    Raises:
        ToolLoadError: It does not exist, raises, or holds no tool.
    """
    modules = modules or Modules()
    with _explained(name, reloads=modules.anew):
        if is_path(name):
            _require_file(name)
        module = modules.load(name)
        return source_of(name, module)


def source_of(name: str, module: ModuleType) -> LoadedSource:
    """The tools and the lifespan of a module that was loaded.

    Args:
        name: What to call it.
        module: The module.

    Raises:
        ToolLoadError: It holds no tool, or a tool that cannot be used.
    """
    tools = tuple(tools_in(module))
    if not tools:
        raise ToolLoadError(f"{name}: no tools in it; mark functions with @tool", name)
    for tool in tools:
        try:
            tool.parameters  # noqa: B018  resolves forward references
        except ToolDefinitionError as error:
            raise ToolLoadError(f"{name}: {error} ({tool.location})", name) from error
    return LoadedSource(name, tools, _lifespan_in(name, module), text_of(module))


def check_names(sources: Sequence[LoadedSource]) -> None:
    """Checks that no two tools share a name.

    Raises:
        ToolLoadError: Two do; the text names both places.
    """
    seen: dict[str, tuple[LoadedSource, Tool[..., Any]]] = {}
    for source in sources:
        for tool in source.tools:
            first, other = seen.setdefault(tool.name, (source, tool))
            if other is not tool or first is not source:
                raise ToolLoadError(
                    f"two tools are named {tool.name!r}: {other.location} (from {first.name}) "
                    f"and {tool.location} (from {source.name})",
                    first.name,
                    source.name,
                )


def _require_file(name: str) -> None:
    path = absolute(name)
    if path.is_dir():
        raise ToolLoadError(f"{path}: is a folder; name a file or a module")
    if path.exists() and not path.is_file():
        raise ToolLoadError(f"{path}: is not a regular file")
    if not path.is_file():
        raise ToolLoadError(f"{path}: no such file")
    if path.suffix != ".py":
        raise ToolLoadError(f"{path}: not a Python file")


@contextlib.contextmanager
def _explained(name: str, *, reloads: bool) -> Iterator[None]:
    """Turns whatever importing raises into a ToolLoadError that names the line.

    A KeyboardInterrupt is the user's, unless tools are reloaded: a sidecar that serves has
    handlers for signals that raise nothing, so the file itself raised it.
    """
    try:
        yield
    except ToolLoadError as error:
        error.sources = (name,)
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise ToolLoadError(
                f"{name}: no such module; a file is given by its path, ending in .py", name
            ) from error
        raise ToolLoadError(_failed_import(name, error), name) from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not reloads:
            raise
        raise ToolLoadError(_failed_import(name, error), name) from error


def _failed_import(name: str, error: BaseException) -> str:
    text = f"{name}: importing it failed: {type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = next((frame for frame in reversed(frames) if _is_of_users(frame.filename)), None)
    return f"{text} ({place.filename}:{place.lineno})" if place is not None else text


def _is_of_users(filename: str) -> bool:
    """Whether it is neither Python's import machinery nor Sidecall's."""
    return not filename.startswith(("<frozen", _OWN_FOLDER))


def tools_in(module: ModuleType) -> Iterator[Tool[..., Any]]:
    """The tools at the top level of a module, each once."""
    seen: set[int] = set()
    for value in list(vars(module).values()):
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(item, Tool) and id(item) not in seen:
                seen.add(id(item))
                yield item


def _lifespan_in(name: str, module: ModuleType) -> Lifespan | None:
    found = {id(value): value for value in vars(module).values() if isinstance(value, Lifespan)}
    if len(found) > 1:
        raise ToolLoadError(
            f"{name}: {len(found)} functions are marked with @lifespan; one can open all "
            "(contextlib.AsyncExitStack holds several resources)",
            name,
        )
    return next(iter(found.values()), None)
