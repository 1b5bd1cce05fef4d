"""Modules of tools: executed from text that was read once, and replaceable."""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, MappingProxyType, ModuleType

from sidecall._sources import is_path

FILE_MODULE_PREFIX = "sidecall_tools_"
"""How the names of modules begin that were loaded from files."""

_NO_TEXTS: Mapping[str, str] = MappingProxyType({})


class Modules:
    """The modules that are executed for one set of tools.

    Each file and module that is named is executed itself; what it imports is imported as
    usual, once per process. A module that is executed again is a new object: whoever
    holds the old one keeps it as it is.

    Attributes:
        anew: Whether modules that exist are executed again.
    """

    def __init__(self, *, anew: bool = False, texts: Mapping[str, str] = _NO_TEXTS) -> None:
        """Takes how to load.

        Args:
            anew: Whether modules that exist are executed again.
            texts: Texts to execute instead of what the files hold, by the names of sources.
        """
        self.anew = anew
        self._texts = texts
        self._replaced: list[tuple[str, ModuleType | None]] = []

    def load(self, name: str) -> ModuleType:
        """The module of a file or dotted name.

        Raises:
            ModuleNotFoundError: There is none of that name.
            BaseException: Whatever executing it raises.
        """
        in_file = is_path(name)
        path = absolute(name)
        module_name = _name_for(path) if in_file else name
        known = sys.modules.get(module_name)
        if known is not None and not self.anew:
            return known
        if self.anew:
            importlib.invalidate_caches()
        # Behind what is installed: the neighbours of a file must not shadow a package.
        _add_to_path(path.parent if in_file else Path.cwd())
        if in_file:
            spec = importlib.util.spec_from_file_location(module_name, path)
        elif known is not None:
            spec = known.__spec__
        else:
            spec = importlib.util.find_spec(name)
            if spec is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        text = self._texts.get(name) or _read(spec)
        if spec is None or spec.origin is None or text is None:
            return known or importlib.import_module(name)
        return self._execute(spec, _TextLoader(spec.name, spec.origin, text))

    def _execute(self, spec: ModuleSpec, loader: "_TextLoader") -> ModuleType:
        made = importlib.util.spec_from_file_location(
            spec.name,
            spec.origin,
            loader=loader,
            submodule_search_locations=spec.submodule_search_locations,
        )
        if made is None:
            raise ImportError(f"{spec.origin} is not a Python file", name=spec.name)
        module = importlib.util.module_from_spec(made)
        for child, submodule in _submodules(spec.name):
            setattr(module, child, submodule)
        old = sys.modules.get(spec.name)
        sys.modules[spec.name] = module
        try:
            loader.exec_module(module)
        except BaseException:
            _put(spec.name, old)
            raise
        self._replaced.append((spec.name, old))
        _put(spec.name, module)
        return module

    def keep(self) -> None:
        """Lets go of the modules that were there before; `undo` does nothing any more."""
        self._replaced.clear()

    def undo(self) -> None:
        """Puts back the modules that were there before. Idempotent."""
        while self._replaced:
            _put(*self._replaced.pop())


class _TextLoader(SourceFileLoader):
    """Executes a text instead of the file, or of bytecode that was cached for it.

    Cached bytecode is found by the file's time in seconds: too coarse for files that are
    loaded again as soon as they have changed.
    """

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self.text = text

    def get_code(self, fullname: str) -> CodeType:
        """Compiles the text."""
        code: CodeType = self.source_to_code(self.text, self.path)
        return code


def text_of(module: ModuleType) -> str | None:
    """The text that a module was executed from; None for one that was imported as usual."""
    loader = module.__spec__.loader if module.__spec__ is not None else None
    return loader.text if isinstance(loader, _TextLoader) else None


def file_of(name: str) -> Path | None:
    """Where the file of a source is, or would be; None where that cannot be told yet.

    Nothing is imported for it: a module in a package that has not been imported is not found.
    """
    if is_path(name):
        return absolute(name)
    known, parent = sys.modules.get(name), name.rpartition(".")[0]
    if known is None and parent and parent not in sys.modules:
        return None
    try:
        spec = known.__spec__ if known is not None else importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def absolute(name: str) -> Path:
    """A path as it was given, from the root.

    Symbolic links stay: what they lead to may be replaced and removed.
    """
    return Path(os.path.abspath(Path(name).expanduser()))  # noqa: PTH100  resolve() follows links


def _name_for(path: Path) -> str:
    # A name of its own: a file called json.py must not stand in for the standard library.
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return f"{FILE_MODULE_PREFIX}{path.stem}_{digest}"


def _read(spec: ModuleSpec | None) -> str | None:
    """The text of a module's file; None for one that has none, such as an extension."""
    loader = spec.loader if spec is not None else None
    if spec is None or not isinstance(loader, InspectLoader):
        return None
    if isinstance(loader, SourceFileLoader) and not Path(loader.path).is_file():
        raise OSError(f"{loader.path} is not a regular file")
    try:
        return loader.get_source(spec.name)
    except ImportError as error:
        # What the import machinery says instead names neither the file nor the reason.
        raise error.__cause__ if isinstance(error.__cause__, OSError) else error from None


def _submodules(name: str) -> list[tuple[str, ModuleType]]:
    prefix = f"{name}."
    found = [(key.removeprefix(prefix), module) for key, module in list(sys.modules.items())
             if key.startswith(prefix)]  # fmt: skip
    return [(child, module) for child, module in found if "." not in child]


def _put(name: str, module: ModuleType | None) -> None:
    """Makes a module the one of its name, as importing it does."""
    parent, _, child = name.rpartition(".")
    package = sys.modules.get(parent)
    if module is not None:
        sys.modules[name] = module
        if package is not None:
            setattr(package, child, module)
        return
    sys.modules.pop(name, None)
    if package is not None and hasattr(package, child):
        delattr(package, child)


def _add_to_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
