import sys
from pathlib import Path

import pytest

from sidecall._loader import ToolLoadError, load_source, load_sources

ONE_TOOL = "from sidecall import tool\n@tool\ndef {name}() -> str:\n    return '{name}'\n"
LIFESPAN = "from sidecall import lifespan\n@lifespan\ndef {name}():\n    yield\n"
UNKNOWN_NAME = (
    "from __future__ import annotations\nfrom sidecall import tool\n"
    "@tool\ndef f(x: Nowhere) -> None: ...\n"
)


@pytest.fixture(autouse=True)
def _same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_tools_of_a_file_in_order_with_its_lifespan_and_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "neighbour_of_tools.py", "from sidecall import tool\nVALUE = 3\n")
    source = load_source(
        write(
            tmp_path,
            "city_tools.py",
            "from neighbour_of_tools import VALUE\n"
            "from sidecall import Tool, lifespan, tool\n"
            "@lifespan\n"
            "def resources():\n"
            "    yield 1\n"
            "@tool\n"
            "def second() -> int:\n"
            "    return VALUE\n"
            "alias = second\n"
            "@tool\n"
            "async def first() -> None: ...\n"
            "made = [Tool(name=f'made_{n}', description='', input_schema={'type': 'object'},\n"
            "             call=lambda: n) for n in range(2)]\n",
        )
    )
    assert [tool.name for tool in source.tools] == ["second", "first", "made_0", "made_1"]
    assert source.tools[0]() == 3
    assert source.lifespan is not None


def test_a_file_may_be_called_like_a_standard_module(tmp_path: Path) -> None:
    source = load_source(write(tmp_path, "json.py", ONE_TOOL.format(name="dump")))
    assert [tool.name for tool in source.tools] == ["dump"]
    import json  # noqa: PLC0415  after the load: the case

    assert json.dumps([1]) == "[1]"


def test_a_module_is_found_by_its_dotted_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "app_of_loader_test"
    package.mkdir()
    write(package, "__init__.py", "")
    write(package, "tools.py", ONE_TOOL.format(name="from_module"))
    monkeypatch.chdir(tmp_path)
    source = load_source("app_of_loader_test.tools")
    assert [tool.name for tool in source.tools] == ["from_module"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "no tools in it; mark functions with @tool"),
        ("def f(:\n", "importing it failed: SyntaxError"),
        ("import not_there_at_all\n", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("x = 1\ny = 1 / 0\n", r"ZeroDivisionError: division by zero \(.*broken\.py:2\)"),
        ("import sys\nsys.exit(3)\n", "importing it failed: SystemExit: 3"),
        (
            "from sidecall import tool\n@tool\ndef f(*x: int) -> None: ...\n",
            r"ToolDefinitionError: tool 'f': \*x has no name",
        ),
        (
            UNKNOWN_NAME,
            r"tool 'f': an annotation names 'Nowhere'.* \(.*broken\.py:3\)",
        ),
        (
            LIFESPAN.format(name="a") + LIFESPAN.format(name="b") + ONE_TOOL.format(name="f"),
            "2 functions are marked with @lifespan",
        ),
    ],
)
def test_what_cannot_be_loaded_is_explained(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, "broken.py", text)
    with pytest.raises(ToolLoadError, match=message) as caught:
        load_source(path)
    assert str(caught.value).startswith(path)


@pytest.mark.parametrize(
    "bad",
    [
        "@tool(timeout='5 parsecs')\ndef f() -> None: ...\n",
        "@tool(effects='none')\ndef f() -> None: ...\n",
        "@tool(max_concurrency=0)\ndef f() -> None: ...\n",
        "@tool(name='two words')\ndef f() -> None: ...\n",
        "@tool\ndef f(*args: int) -> None: ...\n",
        "Tool(name='t', description='', input_schema={}, call=print)\n",
        "class A:\n    run = tool(tool(print))\n",
    ],
)
def test_a_wrong_declaration_is_found_in_the_users_file(tmp_path: Path, bad: str) -> None:
    line = 3 if bad.startswith("class") else 2
    path = write(tmp_path, "wrong.py", "from sidecall import Tool, tool\n" + bad)
    with pytest.raises(ToolLoadError) as caught:
        load_source(path)
    assert str(caught.value).endswith(f"({path}:{line})")


@pytest.mark.parametrize("name", ["missing.py", "./missing/tools.py"])
def test_missing_file(name: str) -> None:
    with pytest.raises(ToolLoadError, match="no such file"):
        load_source(name)


@pytest.mark.parametrize("name", ["not_there_at_all", "not_there_at_all.tools", "json.not_there"])
def test_missing_module(name: str) -> None:
    with pytest.raises(ToolLoadError, match=f"{name}: no such module|importing it failed"):
        load_source(name)


def test_two_tools_of_one_name_are_named_with_both_places(tmp_path: Path) -> None:
    one = write(tmp_path, "one.py", ONE_TOOL.format(name="same"))
    two = write(tmp_path, "two.py", "\n" + ONE_TOOL.format(name="same"))
    with pytest.raises(ToolLoadError, match=rf"'same': {one}:2 .* and {two}:3"):
        load_sources([one, two])


def test_one_source_twice_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "twice.py", ONE_TOOL.format(name="again"))
    with pytest.raises(ToolLoadError, match="two tools are named 'again'"):
        load_sources([path, path])
