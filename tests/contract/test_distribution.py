"""What is installed: the thin SDK alone, and lock files that hold everywhere."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

USE_THE_SDK = """
import importlib.util
import sys

for absent in ("openai", "uvloop", "jsonschema_rs", "click", "grpc_health"):
    assert importlib.util.find_spec(absent) is None, absent

from sidecall import Client, SidecallError, ToolError, to_chat_completions_tools, tool
from sidecall.testing import run_tool
from sidecall.v1 import Tool


@tool(effects="read_only")
def add(a: int, b: int = 2) -> int:
    "Adds two numbers."
    return a + b


assert add.input_schema["required"] == ["a"]
listed = Tool(name=add.name, description=add.description, input_schema='{"type": "object"}')
assert to_chat_completions_tools([listed])[0]["function"]["name"] == "add"

with Client("127.0.0.1:1", retries=0) as client:
    try:
        client.list_tools()
    except SidecallError as error:
        assert error.not_started
    else:
        raise AssertionError("nobody listens there")

import asyncio

print(asyncio.run(run_tool(add, {"a": 40})).content)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, built from this checkout."""
    out = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=ROOT)
    (built,) = out.glob("*.whl")
    return built


def run(command: list[str], cwd: Path) -> str:
    """Runs a command in a clean environment and returns what it prints."""
    names = ("PATH", "HOME", "SSL_CERT_FILE", "TMPDIR")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    done = subprocess.run(  # noqa: S603  commands of this file
        command, cwd=cwd, env=kept, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.mark.timeout(400)
def test_the_thin_sdk_works_alone(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "thin"
    venv.create(home, with_pip=True)
    python = str(home / "bin" / "python")
    run([python, "-m", "pip", "install", "--quiet", str(wheel)], cwd=tmp_path)
    assert run([python, "-c", USE_THE_SDK], cwd=tmp_path) == "42"


def test_the_wheel_holds_code_and_types_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "sidecall",
        "sidecall_server",
    }
    assert {"sidecall/py.typed", "sidecall_server/py.typed"} <= set(names)
    assert "sidecall/v1/tool_service_pb2.pyi" in names


@pytest.mark.parametrize(
    "path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda p: p.name
)
def test_lock_files_hold_hashes_and_no_addresses(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"://|file:|--index|--find-links|@ /", text)
    requirements = re.findall(r"^[a-z0-9][^\s;]*==[^\s;]+", text, re.MULTILINE | re.IGNORECASE)
    assert len(requirements) > 5
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE | re.IGNORECASE)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
