"""Which module of the project imports which, read from the sources."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "sidecall": ROOT / "client" / "python" / "sidecall",
    "sidecall_server": ROOT / "sidecar" / "sidecall_server",
}


@dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        name: Dotted name.
        path: The file.
        tree: Its syntax.
    """

    name: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether it is an `__init__.py`."""
        return self.path.name == "__init__.py"

    @property
    def generated(self) -> bool:
        """Whether a program wrote it."""
        return "_pb2" in self.path.name

    def imports(self, modules: Mapping[str, "Module"]) -> set[str]:
        """Full names of all that it imports, anywhere in it.

        A name that a package re-exports counts as the package.
        """
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.update(self._imported_from(node, modules))
        return found

    def _imported_from(
        self, node: ast.ImportFrom, modules: Mapping[str, "Module"]
    ) -> Iterator[str]:
        base = node.module or ""
        if node.level:
            parts = self.name.split(".")
            parts = parts[: len(parts) - node.level + self.is_package]
            base = ".".join([*parts, base] if base else parts)
        for alias in node.names:
            full = f"{base}.{alias.name}"
            yield full if full in modules else base

    def imports_at_load(self, modules: Mapping[str, "Module"]) -> set[str]:
        """As `imports`, but only what is imported when the module is loaded."""
        found: set[str] = set()
        todo: list[ast.AST] = [*self.tree.body]
        while todo:
            node = todo.pop()
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.update(self._imported_from(node, modules))
            elif isinstance(node, ast.If) and _is_type_checking(node.test):
                todo.extend(node.orelse)
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                todo.extend(ast.iter_child_nodes(node))
        return found


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def read_modules() -> dict[str, Module]:
    """All modules of both packages by name."""
    return {
        module.name: module
        for package, folder in PACKAGES.items()
        for path in sorted(folder.rglob("*.py"))
        for module in [read_module(package, folder, path)]
    }


def read_module(package: str, folder: Path, path: Path) -> Module:
    """One module of a package that lies in a folder."""
    parts = [package, *path.relative_to(folder).with_suffix("").parts]
    if parts[-1] == "__init__":
        parts.pop()
    return Module(".".join(parts), path, ast.parse(path.read_text()))
