"""The Rust client: it builds, its own checks pass, and its README's example runs."""

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.sidecar import SidecarProcess

import sidecall
from sidecall.chat import REFERENCE_HINT
from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedModel, ScriptedTurn

CRATE = Path(__file__).resolve().parents[2] / "client" / "rust"
_PROTOS = CRATE.parents[1] / "protos"
# What cargo itself writes for every package of the default registry.
_REGISTRY = 'source = "registry+https://github.com/rust-lang/crates.io-index"'
_LONGEST_S = 1200

pytestmark = pytest.mark.timeout(_LONGEST_S)


def _missing() -> str:
    """Why there is no toolchain; empty where there is one."""
    lacking = [name for name in ("cargo", "cc") if shutil.which(name) is None]
    if lacking:
        return f"{', '.join(lacking)} not on the PATH"
    oldest = _manifest()["package"]["rust-version"]
    version = _run("--version").split()[1]
    if _numbers(version) < _numbers(oldest):
        return f"cargo {version} is older than {oldest}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _run(*arguments: str, **environ: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIDECALL_", "OPENAI_"))}
    done = subprocess.run(  # noqa: S603  cargo's own commands
        ["cargo", *arguments],  # noqa: S607  the one that is on the PATH
        cwd=CRATE,
        env={**kept, "CARGO_TERM_COLOR": "never", **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LONGEST_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _manifest() -> dict[str, Any]:
    return tomllib.loads((CRATE / "Cargo.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", autouse=True)
def _toolchain() -> None:
    if missing := _missing():
        if os.environ.get("SIDECALL_REQUIRE_TOOLCHAINS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)


@pytest.fixture
def sidecar() -> Iterator[SidecarProcess]:
    """A sidecar that has no tools of its own."""
    with tempfile.TemporaryDirectory(prefix="sidecall-") as folder:
        with SidecarProcess(f"unix:{folder}/s", Path(folder) / "log") as process:
            yield process
        assert process.signs_of_bugs() == []


def test_unit_and_documentation_tests() -> None:
    printed = _run("test", "--quiet", "--locked", "--all-features")
    assert re.search(r"test result: ok\. [1-9]\d* passed", printed), printed


def test_format_and_linter() -> None:
    _run("fmt", "--check")
    _run("clippy", "--quiet", "--locked", "--all-features", "--all-targets", "--", "-Dwarnings")


def test_each_feature_can_be_left_out() -> None:
    # With the tests, so that most of what was built before serves again.
    _run(
        *("clippy", "--quiet", "--locked", "--no-default-features", "--lib", "--tests"),
        *("--", "-Dwarnings"),
    )


def test_documentation() -> None:
    _run(
        *("doc", "--quiet", "--locked", "--no-deps", "--all-features", "--lib", "--examples"),
        RUSTDOCFLAGS="-Dwarnings",
    )


async def test_the_readme_example_answers(sidecar: SidecarProcess) -> None:
    def answer(request: ModelRequest) -> ScriptedTurn:
        return ScriptedTurn(text=f"I know: {request.results()}")

    calls = [
        ScriptedCall("get_fruit_price", {"fruit": "apple"}),
        ScriptedCall("get_fruit_price", {"fruit": "plum"}),
    ]
    async with ScriptedModel([ScriptedTurn(calls=calls), answer]) as model:
        printed = await asyncio.to_thread(
            _run,
            *("run", "--quiet", "--locked", "--all-features", "--example", "prices"),
            SIDECALL_ENDPOINT=sidecar.address,
            OPENAI_API_KEY="none",
            OPENAI_BASE_URL=model.base_url,
            NO_PROXY="127.0.0.1",
        )
    assert printed == "I know: ['0.4', 'There are apples and pears.']\n"


def test_the_readme_shows_the_example() -> None:
    readme = (CRATE / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```rust\n(.*?)```", readme, re.DOTALL)
    example = (CRATE / "examples" / "prices.rs").read_text(encoding="utf-8")
    assert example.partition("\n\n")[2] == shown
    assert len(shown.splitlines()) <= 30


def test_the_version_is_that_of_the_contract() -> None:
    assert _manifest()["package"]["version"] == sidecall.__version__


def test_the_model_is_told_the_same_about_references() -> None:
    hint = (CRATE / "src" / "chat" / "hint.rs").read_text(encoding="utf-8")
    written = re.sub(r"\\\n", "", hint).replace('\\"', '"')
    assert REFERENCE_HINT in written


def test_it_could_be_published() -> None:
    package = _manifest()["package"]
    assert (package["name"], package["license"]) == ("sidecall", "Apache-2.0")
    files = set(_run("package", "--quiet", "--list", "--locked", "--allow-dirty").split())
    protos = {f"protos/{path.relative_to(_PROTOS)}" for path in _PROTOS.rglob("*.proto")}
    assert protos
    assert protos | {"LICENSE", "README.md", "build.rs", "protos/google/rpc/status.proto"} <= files
    assert [path for path in files if path.startswith(("target/", "examples/conformance"))] == []


def test_the_lock_names_no_registry_but_the_default_one() -> None:
    lock = (CRATE / "Cargo.lock").read_text(encoding="utf-8")
    sources = {line for line in lock.splitlines() if line.startswith("source = ")}
    assert sources == {_REGISTRY}
