"""Runs the commands of docs/writing-a-client.md: what they print is what it shows."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Never

import grpc
import pytest
from tests.support.document import ROOT, TEXT, sections
from tests.support.fake_tool_service import FakeTool, FakeToolService, RpcFailure, refuse
from tests.support.sidecar import SidecarProcess, free_address

from sidecall.v1.tool_service_pb2 import ListToolsRequest, ListToolsResponse

SECTIONS = sections()
SET_UP, PROTOS, RUBY, PROOF = "", "The protos", "A generated client: Ruby", "Prove it"
BY_HAND = (
    "By hand: buf curl",
    "Sending again",
    "StreamBatch and early start",
    "The chat loop, step by step",
    "A tool host",
)
_LONGEST_S = 300
_END_OF_BLOCK = "== end of block =="

pytestmark = pytest.mark.timeout(2 * _LONGEST_S)


def _execute(command: list[str], folder: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIDECALL_", "OPENAI_"))}
    variables = {"SIDECALL": str(ROOT), "SIDECALL_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"}
    # The environment of the tests has buf, pip and their interpreter.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return subprocess.run(  # noqa: S603  the document's own commands
        command,
        cwd=folder,
        env={**kept, **variables, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=_LONGEST_S,
    )


def _run(command: list[str], folder: Path, endpoint: str = "") -> str:
    done = _execute(command, folder, endpoint)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _run_sections(titles: tuple[str, ...], folder: Path, endpoint: str = "") -> None:
    """Runs the commands of some sections in one shell and compares what they print."""
    blocks = [block for title in titles for block in SECTIONS[title]]
    script = ["set -eu"]
    shown: list[str | None] = []
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language == "sh":
            script += [block.text, f"echo '{_END_OF_BLOCK}'"]
            shown.append(after.text if after is not None and after.language == "text" else None)
    printed = _run(["bash", "-c", "\n".join(script)], folder, endpoint)
    texts = printed.split(f"{_END_OF_BLOCK}\n")[:-1]
    assert len(texts) == len(shown)
    for text, wanted in zip(texts, shown, strict=True):
        if wanted is not None:
            assert text == wanted


def _skip(why: str) -> Never:
    if os.environ.get("SIDECALL_REQUIRE_TOOLCHAINS") == "1":
        pytest.fail(why)
    pytest.skip(why)


def _need(*programs: str) -> None:
    if missing := [name for name in programs if shutil.which(name) is None]:
        _skip(f"not on the PATH: {', '.join(missing)}")


def _serve(address: str, folder: Path) -> SidecarProcess:
    (tools,) = re.findall(
        r'^sidecall serve --tools "\$SIDECALL/(\S+)" &$', SECTIONS[SET_UP][0].text, re.MULTILINE
    )
    return SidecarProcess(address, folder / "log", tools=ROOT / tools)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder with the protos, as the document places them."""
    with tempfile.TemporaryDirectory(prefix="sidecall-") as name:
        _run_sections((PROTOS,), Path(name))
        yield Path(name)


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[SidecarProcess]:
    """The sidecar that the document starts, on another port."""
    with _serve(free_address(), tmp_path) as process:
        yield process
    assert process.signs_of_bugs() == []


@pytest.fixture
def unix_sidecar() -> Iterator[SidecarProcess]:
    """The same on a unix socket."""
    with tempfile.TemporaryDirectory(prefix="sidecall-") as name:
        with _serve(f"unix:{name}/s", Path(name)) as process:
            yield process
        assert process.signs_of_bugs() == []


@pytest.fixture(scope="module")
def ruby_client(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the Ruby client, generated and run as the document says."""
    _need("ruby", "protoc", "grpc_ruby_plugin")
    for command in (
        ["ruby", "-e", "require 'grpc'; require 'google/rpc/status_pb'"],
        ["protoc", "-I", "protos", "-o", os.devnull, "protos/google/rpc/error_details.proto"],
    ):
        if _execute(command, folder, "").returncode:
            _skip(f"does not work here: {' '.join(command)}")
    with _serve(free_address(), tmp_path_factory.mktemp("sidecar")) as process:
        _run_sections((RUBY,), folder, process.address)
    assert process.signs_of_bugs() == []
    return folder


def test_each_command_is_run_by_a_test() -> None:
    titles = {t for t, blocks in SECTIONS.items() if any(b.language == "sh" for b in blocks)}
    assert titles == {SET_UP, PROTOS, RUBY, *BY_HAND, PROOF}
    assert len(SECTIONS[SET_UP]) == 1


def test_commands_with_buf_alone(folder: Path, sidecar: SidecarProcess) -> None:
    _need("jq")
    _run_sections(BY_HAND, folder, sidecar.address)


def test_buf_over_a_unix_socket(folder: Path, unix_sidecar: SidecarProcess) -> None:
    assert "`--unix-socket PATH` and `http://localhost/...`" in TEXT
    socket = ["--unix-socket", str(unix_sidecar.socket_path)]
    url = "http://localhost/sidecall.v1.ToolService/GetCapabilities"
    options = ["--protocol", "grpc", "--http2-prior-knowledge", "--schema", "protos"]
    buf = str(Path(sys.executable).with_name("buf"))
    assert '"instanceId"' in _run([buf, "curl", *options, *socket, "-d", "{}", url], folder)


def test_the_ruby_client_over_a_unix_socket(
    ruby_client: Path, unix_sidecar: SidecarProcess
) -> None:
    (output,) = (block.text for block in SECTIONS[RUBY] if block.language == "text")
    assert (
        _run(["ruby", "-I", "generated", "client.rb"], ruby_client, unix_sidecar.address) == output
    )


def test_the_ruby_client_has_no_warnings(ruby_client: Path) -> None:
    done = _execute(["ruby", "-wc", "client.rb"], ruby_client, "")
    assert (done.stdout, done.stderr) == ("Syntax OK\n", "")


DRAINING = RpcFailure(grpc.StatusCode.UNAVAILABLE, "DRAINING")
NO_STORE = RpcFailure(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", 0.01)
LOST = RpcFailure(grpc.StatusCode.UNAVAILABLE)
BROKEN = RpcFailure(grpc.StatusCode.INTERNAL, "INTERNAL")
MUCH_LATER = RpcFailure(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_BATCHES", 60.0)


class ChangingToolService(FakeToolService):
    """Its tools change once between two pages."""

    changed = False

    async def ListTools(  # noqa: N802  the contract's name
        self, request: ListToolsRequest, context: Any
    ) -> ListToolsResponse:
        if request.page_token and not self.changed:
            self.changed = True
            await refuse(RpcFailure(grpc.StatusCode.ABORTED, "TOOLS_CHANGED"), context)
        return await super().ListTools(request, context)


async def _run_ruby(service: FakeToolService, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["ruby", "-I", "generated", "client.rb"]
    return await asyncio.to_thread(_execute, command, folder, service.endpoint)


async def test_the_ruby_client_sends_again_what_was_refused(ruby_client: Path) -> None:
    async with FakeToolService({}) as service:
        service.failures = {"ExecuteBatch": [DRAINING, NO_STORE], "ListTools": [DRAINING]}
        done = await _run_ruby(service, ruby_client)
    assert done.returncode == 0, done.stderr
    first, second, third, last = service.batches
    assert first == second == third
    assert last.max_concurrency == -1
    assert done.stdout.count("TOOL_NOT_FOUND") == len(first.calls)


@pytest.mark.parametrize("failure", [LOST, BROKEN, MUCH_LATER], ids=["lost", "broken", "later"])
async def test_the_ruby_client_sends_nothing_else_again(
    ruby_client: Path, failure: RpcFailure
) -> None:
    async with FakeToolService({}) as service:
        service.failures = {"ExecuteBatch": [failure]}
        done = await _run_ruby(service, ruby_client)
    assert (done.returncode, len(service.batches)) == (1, 1)
    assert f"{failure.code.name}" in done.stderr


async def test_the_ruby_client_lists_tools_that_change(ruby_client: Path) -> None:
    async def nothing(_: dict[str, Any]) -> str:
        return ""

    tools = {name: FakeTool(nothing) for name in ("a", "b", "c")}
    async with ChangingToolService(tools) as service:
        done = await _run_ruby(service, ruby_client)
    assert service.changed
    assert done.stdout.startswith("a() READ_ONLY\nb() READ_ONLY\nc() READ_ONLY\n"), done.stderr


def test_the_conformance_suite_runs_as_said(folder: Path) -> None:
    _run_sections((PROOF,), folder)
