"""The Go client: it builds, its own checks pass, and its README's examples run."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.sidecar import SidecarProcess

import sidecall
from sidecall.chat import REFERENCE_HINT, SESSION_REFERENCE_HINT
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedModel, ScriptedTurn

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "client" / "go"
# Go leaves folders with an underscore out of "./...".
EXAMPLES = MODULE / "build" / "_examples"
_LONGEST_S = 900
_WAIT_S = 60
_POLL_S = 0.01
_TOOLS = """
from sidecall import tool

@tool(effects="read_only")
def get_price(product: str) -> float:
    "Returns a price."
    return {"apple": 0.4, "pear": 0.6}[product]
"""

pytestmark = pytest.mark.timeout(_LONGEST_S)


def _environ(**further: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIDECALL_", "OPENAI_"))}
    return {**kept, "NO_PROXY": "127.0.0.1", **further}


def _run(*command: str, **environ: str) -> str:
    done = subprocess.run(  # noqa: S603  the module's own commands
        command,
        cwd=MODULE,
        env=_environ(**environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_LONGEST_S,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _go(*arguments: str) -> str:
    return _run("go", *arguments)


@pytest.fixture(scope="module", autouse=True)
def _toolchain() -> None:
    if shutil.which("go") is None:
        missing = "go is not on the PATH"
        if os.environ.get("SIDECALL_REQUIRE_TOOLCHAINS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[SidecarProcess]:
    """A sidecar with one tool."""
    tools = tmp_path / "tools.py"
    tools.write_text(_TOOLS)
    with tempfile.TemporaryDirectory(prefix="sidecall-") as folder:
        with SidecarProcess(f"unix:{folder}/s", tmp_path / "log", tools=str(tools)) as process:
            yield process
        assert process.signs_of_bugs() == []


def _place(name: str, source: str) -> Path:
    folder = EXAMPLES / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.go").write_text(source, encoding="utf-8")
    return folder / "main.go"


@pytest.fixture(scope="module")
def examples() -> list[Path]:
    """The programs of the README, built."""
    readme = (MODULE / "README.md").read_text(encoding="utf-8")
    programs = []
    for number, source in enumerate(
        re.findall(r"```go\n(package main\n.*?)```", readme, re.DOTALL)
    ):
        programs.append(EXAMPLES / f"example{number}" / "program")
        source_file = _place(f"example{number}", source)
        assert _run("gofmt", "-l", str(source_file)) == ""
        _go("build", "-o", str(programs[-1]), f"./{source_file.parent.relative_to(MODULE)}")
    assert len(programs) == 2
    return programs


def test_format_vet_and_modules() -> None:
    sources = [str(path) for path in MODULE.glob("**/*.go") if EXAMPLES not in path.parents]
    assert _run("gofmt", "-l", *sources) == ""
    _go("vet", "./...")
    assert _go("mod", "tidy", "-diff") == ""
    assert _go("-C", "tools", "mod", "tidy", "-diff") == ""


def test_staticcheck() -> None:
    _go("tool", "-modfile=tools/go.mod", "staticcheck", "-checks=all,-ST1000", "./...")


def test_unit_tests() -> None:
    # The race detector needs a C compiler.
    has_compiler = shutil.which(_go("env", "CC").strip()) is not None
    _go("test", *(["-race"] if has_compiler else []), "./...")


def test_the_client_does_not_need_the_library_of_a_provider() -> None:
    for package in (".", "./toolhost", "./sidecallv1"):
        assert "openai" not in _go("list", "-deps", package)


async def test_the_readme_chats(examples: list[Path], sidecar: SidecarProcess) -> None:
    def answer(request: ModelRequest) -> ScriptedTurn:
        return ScriptedTurn(text=f"I know: {request.results()}")

    calls = [ScriptedCall("get_price", {"product": name}) for name in ("apple", "pear")]
    async with ScriptedModel([ScriptedTurn(calls=calls), answer]) as model:
        printed = await asyncio.to_thread(
            _run,
            str(examples[0]),
            SIDECALL_ENDPOINT=sidecar.address,
            OPENAI_API_KEY="none",
            OPENAI_BASE_URL=model.base_url,
        )
    assert printed == "I know: ['0.4', '0.6']\n"


async def _offers(client: sidecall.AsyncClient, name: str) -> bool:
    return name in {tool.name for tool in await client.list_tools()}


async def test_the_readme_offers_a_function(examples: list[Path], sidecar: SidecarProcess) -> None:
    host = await asyncio.create_subprocess_exec(
        str(examples[1]), env=_environ(SIDECALL_ENDPOINT=sidecar.address)
    )
    try:
        async with sidecall.AsyncClient(sidecar.address) as client, asyncio.timeout(_WAIT_S):
            while not await _offers(client, "get_fruit_price"):  # noqa: ASYNC110  another process
                await asyncio.sleep(_POLL_S)
            found = await client.call("get_fruit_price", {"name": "pear"})
            missing = await client.call("get_fruit_price", {"name": "plum"})
            wrong = await client.call("get_fruit_price", {"fruit": "pear"})
            host.send_signal(signal.SIGTERM)
            assert await host.wait() == 0
    finally:
        if host.returncode is None:
            host.kill()
            await host.wait()
    assert found.content == "0.6"
    assert missing.content == "There are apples and pears."
    assert sidecall.reason_of(wrong) == "ARGUMENTS_INVALID"


def test_the_version_is_that_of_the_contract() -> None:
    source = (MODULE / "doc.go").read_text(encoding="utf-8")
    assert f'const Version = "{sidecall.__version__}"' in source


def test_it_could_be_published() -> None:
    assert (MODULE / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert _go("list", "-m").strip() == "sidecall.dev/go"
    assert "replace" not in (MODULE / "go.mod").read_text(encoding="utf-8")


def test_the_model_is_told_the_same_about_references() -> None:
    source = _place(
        "hints",
        'package main\n\nimport (\n\t"fmt"\n\n\t"sidecall.dev/go/chat"\n)\n\n'
        "func main() { fmt.Print(chat.ReferenceHint, chat.SessionReferenceHint()) }\n",
    )
    assert _go("run", str(source)) == REFERENCE_HINT + SESSION_REFERENCE_HINT
