"""The TypeScript client: it builds, its own checks pass, and its README's example runs."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.sidecar import SidecarProcess

import sidecall
from sidecall.chat import REFERENCE_HINT, SESSION_REFERENCE_HINT
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedModel, ScriptedTurn

PACKAGE = Path(__file__).resolve().parents[2] / "client" / "typescript"
_OLDEST_NODE = (20, 19)
_LONGEST_S = 900

pytestmark = pytest.mark.timeout(_LONGEST_S)


def _missing() -> str:
    """Why there is no toolchain; empty where there is one."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are not on the PATH"
    version = _run(["node", "--version"]).removeprefix("v")
    if tuple(map(int, version.split(".")[:2])) < _OLDEST_NODE:
        return f"node {version.strip()} is older than {'.'.join(map(str, _OLDEST_NODE))}"
    return ""


def _run(command: list[str], **environ: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIDECALL_", "OPENAI_"))}
    done = subprocess.run(  # noqa: S603  the package's own commands
        command,
        cwd=PACKAGE,
        env={**kept, "NO_PROXY": "127.0.0.1", "NO_COLOR": "1", **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_LONGEST_S,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    if missing := _missing():
        if os.environ.get("SIDECALL_REQUIRE_TOOLCHAINS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    _run(["node", "scripts/prepare.mjs"])


@pytest.fixture
def sidecar() -> Iterator[SidecarProcess]:
    """A sidecar that has no tools of its own."""
    with tempfile.TemporaryDirectory(prefix="sidecall-") as folder:
        with SidecarProcess(f"unix:{folder}/s", Path(folder) / "log") as process:
            yield process
        assert process.signs_of_bugs() == []


def test_types_linter_and_format() -> None:
    _run(["npm", "run", "check"])


def test_unit_tests() -> None:
    _run(["npm", "test"])


async def test_the_readme_example_answers(sidecar: SidecarProcess) -> None:
    def answer(request: ModelRequest) -> ScriptedTurn:
        return ScriptedTurn(text=f"I know: {request.results()[0]}")

    calls = [
        ScriptedCall("get_fruit_price", {"product": "apple"}),
        ScriptedCall("get_fruit_price", {"product": "pear"}),
    ]
    _compile_example()
    async with ScriptedModel([ScriptedTurn(calls=calls), answer]) as model:
        printed = await asyncio.to_thread(
            _run,
            ["node", "build/example/out/example.js"],
            SIDECALL_ENDPOINT=sidecar.address,
            OPENAI_API_KEY="none",
            OPENAI_BASE_URL=model.base_url,
        )
    apple = '{"product":"apple","price":0.4}'
    assert printed == f'{apple}\n{{"product":"pear","price":0.6}}\nI know: {apple}'


def _compile_example() -> None:
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```ts\n(.*?)```", readme, re.DOTALL)
    assert len(example.splitlines()) <= 25
    folder = PACKAGE / "build" / "example"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "example.ts").write_text(example, encoding="utf-8")
    config = {
        "extends": "../../tsconfig.json",
        "compilerOptions": {"noEmit": False, "outDir": "out", "rootDir": "."},
        "include": ["example.ts"],
    }
    (folder / "tsconfig.json").write_text(json.dumps(config), encoding="utf-8")
    _run(["node_modules/.bin/tsc", "-p", "build/example"])


def test_the_version_is_that_of_the_contract() -> None:
    package = _package()
    source = (PACKAGE / "src" / "version.ts").read_text(encoding="utf-8")
    assert package["version"] == sidecall.__version__
    assert f'VERSION = "{sidecall.__version__}"' in source


def test_it_could_be_published() -> None:
    package = _package()
    assert (package["name"], package["license"]) == ("sidecall", "Apache-2.0")
    (packed,) = json.loads(_run(["npm", "pack", "--dry-run", "--json", "--loglevel=error"]))
    files = {item["path"] for item in packed["files"]}
    targets = {target[2:] for entry in package["exports"].values() for target in _targets(entry)}
    assert targets | {"LICENSE", "README.md"} <= files
    assert [path for path in files if path.startswith(("src/", "test/", "build/"))] == []


def _package() -> dict[str, Any]:
    package: dict[str, Any] = json.loads((PACKAGE / "package.json").read_text(encoding="utf-8"))
    return package


def _targets(entry: str | dict[str, str]) -> list[str]:
    return [entry] if isinstance(entry, str) else list(entry.values())


def test_the_lock_names_no_registry() -> None:
    lock = (PACKAGE / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock


def test_it_can_be_required() -> None:
    script = "console.log(require('sidecall').VERSION, typeof require('sidecall/chat').ChatLoop)"
    assert f"{sidecall.__version__} function" in _run(["node", "--eval", script])


def test_the_model_is_told_the_same_about_references() -> None:
    script = (
        "import { REFERENCE_HINT, SESSION_REFERENCE_HINT } from 'sidecall/chat';"
        "console.log(JSON.stringify([REFERENCE_HINT, SESSION_REFERENCE_HINT]))"
    )
    told = _run(["node", "--input-type=module", "--eval", script])
    assert json.loads(told) == [REFERENCE_HINT, SESSION_REFERENCE_HINT]
