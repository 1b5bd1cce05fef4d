"""Imports go one way, files and functions stay small."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.imports import PACKAGES, Module, read_module, read_modules

from sidecall_server.core.cycles import cyclic

SERVER = "sidecall_server"

_ENGINE = {"engine", "policy", "core"}
_APP = {
    *_ENGINE,
    "transport",
    "admin",
    "backends",
    "observability",
    "config",
    "reload",
    "hosts",
    "last_resort",
    "memory",
    "store",
}

LAYERS: dict[str, set[str]] = {
    # What may import what, within the service. Each layer may import itself.
    "core": set(),
    "policy": {"core"},
    "engine": {"policy", "core"},
    "transport": {*_ENGINE, "hosts"},
    "hosts": {"core"},
    "admin": _ENGINE,
    "backends": {"core"},
    "observability": {"core"},
    "config": {"core"},
    "reload": {*_ENGINE, "backends", "config", "hosts", "memory"},
    "last_resort": {"core"},
    "memory": {"core"},
    "store": {"core"},
    "demo": {"core"},
    "inprocess": _APP - {"config", "admin", "reload"},
    "checking": _APP,
    "app": _APP,
    "cli": {*_APP, "checking", "app", "demo"},
    "__main__": {"cli"},
}

SPEAKS_PROTOBUF = (
    "sidecall",
    f"{SERVER}.transport",
    f"{SERVER}.app",
    f"{SERVER}.inprocess",
    f"{SERVER}.cli",
)
"""Parts that may import protobuf, gRPC or the stubs."""

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 8

MODULES = read_modules()
WRITTEN = {name: module for name, module in MODULES.items() if not module.generated}


def layer_of(name: str) -> str | None:
    """Part of the service that a module belongs to; None for the package itself."""
    parts = name.split(".")
    return parts[1] if parts[0] == SERVER and len(parts) > 1 else None


def forbidden_imports(module: Module) -> list[str]:
    """What a module of the service must not import of the service."""
    layer = layer_of(module.name)
    if layer is None:
        return []
    allowed = LAYERS[layer] | {layer, None}
    return [name for name in module.imports(MODULES)
            if name.split(".")[0] == SERVER and layer_of(name) not in allowed]  # fmt: skip


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_there_is_something_to_check() -> None:
    assert f"{SERVER}.core.plan" in MODULES
    assert "sidecall._tool" in MODULES
    assert f"{SERVER}.core.call" in MODULES[f"{SERVER}.core.plan"].imports(MODULES)


def test_every_part_of_the_service_has_its_place() -> None:
    assert {layer_of(name) for name in MODULES} - {None} <= LAYERS.keys()


@pytest.mark.parametrize("name", sorted(n for n in WRITTEN if n.startswith(SERVER)))
def test_imports_go_one_way(name: str) -> None:
    assert forbidden_imports(MODULES[name]) == []


def test_the_core_needs_the_standard_library_alone() -> None:
    for name, module in WRITTEN.items():
        if layer_of(name) == "core":
            tops = {imported.split(".")[0] for imported in module.imports(MODULES)}
            assert tops - sys.stdlib_module_names == {SERVER} & tops, name


@pytest.mark.parametrize("name", sorted(n for n in WRITTEN if n.startswith("sidecall.")))
def test_the_sdk_never_imports_the_service(name: str) -> None:
    assert not any(n.split(".")[0] == SERVER for n in MODULES[name].imports(MODULES))


def test_protobuf_and_grpc_stop_at_the_transport() -> None:
    for name, module in WRITTEN.items():
        if any(name == part or name.startswith(part + ".") for part in SPEAKS_PROTOBUF):
            continue
        for imported in module.imports(MODULES):
            assert imported.split(".")[0] not in ("grpc", "grpc_health", "grpc_reflection"), name
            assert not imported.startswith(("google.", "sidecall.v1")), name


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Packages count as all that their `__init__` loads."""
    numbers = {name: number for number, name in enumerate(MODULES)}
    edges = {}
    for name, module in MODULES.items():
        imported = module.imports_at_load(MODULES) & MODULES.keys()
        edges[numbers[name]] = [numbers[other] for other in imported - {name}]
    circle = cyclic(edges)

    assert [name for name, number in numbers.items() if number in circle] == []


def test_files_are_short() -> None:
    lengths = {name: len(m.path.read_text().splitlines()) for name, m in WRITTEN.items()}

    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_functions_are_short() -> None:
    long = {
        f"{name}.{function.name}": function.end_lineno - function.lineno + 1
        for name, module in WRITTEN.items()
        for function in functions(module)
        if function.end_lineno and function.end_lineno - function.lineno >= MAX_FUNCTION_LINES
    }

    assert long == {}


def test_functions_take_few_parameters() -> None:
    many = {}
    for name, module in WRITTEN.items():
        for function in functions(module):
            given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            own = [parameter for parameter in given if parameter.arg not in ("self", "cls")]
            if len(own) > MAX_PARAMETERS:
                many[f"{name}.{function.name}"] = len(own)

    assert many == {}


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("import sidecall_server.engine.engine", {"sidecall_server.engine.engine"}),
        ("from sidecall_server.engine import engine", {"sidecall_server.engine.engine"}),
        ("from ..engine.engine import Engine", {"sidecall_server.engine.engine"}),
        (
            "def f():\n    from sidecall_server.engine import engine",
            {"sidecall_server.engine.engine"},
        ),
        (
            "if TYPE_CHECKING:\n    from sidecall_server.engine.engine import Engine",
            {"sidecall_server.engine.engine"},
        ),
    ],
)
def test_no_import_escapes_the_reader(source: str, imported: set[str], tmp_path: Path) -> None:
    path = tmp_path / "policy" / "made_up.py"
    path.parent.mkdir()
    path.write_text(source)
    module = read_module(SERVER, tmp_path, path)

    assert module.imports(MODULES) == imported
    assert forbidden_imports(module) == ["sidecall_server.engine.engine"]


def test_both_packages_are_read() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(PACKAGES)
