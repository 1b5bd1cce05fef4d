"""Modules that are executed again: new objects, and back to the old ones where that fails."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecall._loader import ToolLoadError, load_sources
from sidecall._modules import Modules, file_of, text_of

TOOL = "from sidecall import tool\n@tool\ndef {name}() -> str:\n    return '{name}'\n"


@pytest.fixture(autouse=True)
def _same_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `shop` with `shop.tools`, which uses its neighbour `shop.tools.prices`."""
    folder = tmp_path / "shop" / "tools"
    folder.mkdir(parents=True)
    (tmp_path / "shop" / "__init__.py").write_text("")
    (folder / "prices.py").write_text("PRICE = 1\n")
    (folder / "__init__.py").write_text(
        "import shop.tools.prices\nVERSION = 1\ndef price(): return shop.tools.prices.PRICE\n"
    )
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_file_that_is_executed_again_leaves_the_old_module_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "city.py"
    path.write_text("X = 1\ndef x(): return X\n")
    old = Modules().load(str(path))
    path.write_text("X = 2\ndef x(): return X\n")
    new = Modules(anew=True).load(str(path))

    assert (old.x(), new.x()) == (1, 2)
    assert sys.modules[new.__name__] is new
    assert Modules().load(str(path)) is new


def test_a_file_that_may_not_be_read_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "city.py"
    path.write_text("X = 1\n")

    def refuse(self: object, name: str) -> bytes:
        raise PermissionError(13, "Permission denied", name)

    # Who runs the tests may read everything.
    monkeypatch.setattr("importlib.machinery.SourceFileLoader.get_data", refuse)
    with pytest.raises(ToolLoadError, match=f"Permission denied: '{path}'"):
        load_sources([str(path)])


def test_text_of_one_length_and_time_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "city.py"
    for value in (1, 2, 3):
        path.write_text(f"x = {value}\n")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        module = Modules(anew=True).load(str(path))
        assert module.x == value


def test_undoing_puts_the_old_modules_back(tmp_path: Path, package: Path) -> None:
    path, new_path = tmp_path / "city.py", tmp_path / "new.py"
    path.write_text("X = 1\n")
    new_path.write_text("X = 1\n")
    names = [str(path), "shop.tools"]
    old = [Modules().load(name) for name in names]
    modules = Modules(anew=True)
    new = [modules.load(name) for name in [*names, str(new_path)]]
    assert sys.modules["shop"].tools is new[1]
    modules.undo()
    modules.undo()

    assert [sys.modules[module.__name__] for module in old] == old
    assert sys.modules["shop"].tools is old[1]
    assert new[2].__name__ not in sys.modules


def test_a_package_is_executed_again_and_what_it_imports_is_not(package: Path) -> None:
    old = Modules().load("shop.tools")
    prices = sys.modules["shop.tools.prices"]
    init = package / "__init__.py"
    init.write_text(init.read_text().replace("VERSION = 1", "VERSION = 2"))
    (package / "prices.py").write_text("PRICE = 2\n")
    new = Modules(anew=True).load("shop.tools")

    assert (old.VERSION, new.VERSION) == (1, 2)
    assert (old.price(), new.price()) == (1, 1)
    assert sys.modules["shop.tools.prices"] is prices
    assert importlib.import_module("shop.tools") is new


def test_old_code_finds_its_package_while_the_new_one_is_executed(package: Path) -> None:
    old = Modules().load("shop.tools")
    (package / "__init__.py").write_text("import shop\nseen = shop.tools\n")

    assert Modules(anew=True).load("shop.tools").seen is old


@pytest.mark.parametrize(
    "text", ["raise OSError('no')\n", "def f(:\n", "import sys; sys.exit(1)\n"]
)
def test_a_file_that_cannot_be_executed_leaves_what_was_there(tmp_path: Path, text: str) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(TOOL.format(name="good"))
    bad.write_text(TOOL.format(name="bad"))
    names = [str(good), str(bad)]
    load_sources(names)
    old = [Modules().load(name) for name in names]
    bad.write_text(text)
    with pytest.raises(ToolLoadError, match=rf"^{bad}: importing it failed"):
        load_sources(names, Modules(anew=True))

    assert [Modules().load(name) for name in names] == old


def test_a_text_that_is_given_is_executed_instead_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "city.py"
    path.write_text("def f(:\n")
    module = Modules(texts={str(path): "X = __file__\n"}).load(str(path))

    assert (module.X, text_of(module)) == (str(path), "X = __file__\n")


def test_a_module_without_source_stays(tmp_path: Path) -> None:
    assert Modules(anew=True).load("math") is sys.modules["math"]
    assert text_of(sys.modules["math"]) is None


def test_files_are_found_by_the_names_that_were_given(tmp_path: Path, package: Path) -> None:
    (tmp_path / "link.py").symlink_to(tmp_path / "nowhere.py")

    assert file_of("link.py") == tmp_path / "link.py"
    assert file_of("math") in (None, Path(getattr(sys.modules["math"], "__file__", "")))
    assert file_of("not_there_at_all") is None
    assert file_of("not_there_at_all.tools") is None
    assert file_of("shop.tools") is None
    assert "shop" not in sys.modules
    Modules().load("shop.tools")
    assert file_of("shop.tools") == package / "__init__.py"


def test_a_file_behind_a_link_that_moves_stays_one_module(tmp_path: Path) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "city.py").write_text(f"X = '{version}'\n")
    link = tmp_path / "current"
    link.symlink_to("one")
    first = Modules().load(f"{link}/city.py")
    link.unlink()
    link.symlink_to("two")
    second = Modules(anew=True).load(f"{link}/city.py")

    assert (first.X, second.X) == ("one", "two")
    assert first.__name__ == second.__name__
    assert str(second.__file__) == f"{link}/city.py"


def test_a_pipe_in_place_of_a_module_is_not_opened(package: Path) -> None:
    Modules().load("shop.tools")
    path = package / "__init__.py"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="is not a regular file"):
        Modules(anew=True).load("shop.tools")
