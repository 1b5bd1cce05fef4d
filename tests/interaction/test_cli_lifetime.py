"""What commands start ends with them, and prints nothing between their own words."""

import json
import signal
import time
from pathlib import Path

import pytest
from tests.support.command import LONGEST_S, is_alive, read_until, sidecall, started

NOISY_TOOLS = """
import contextlib, os, subprocess, sys
from sidecall import lifespan, tool

print("import noise")

@lifespan
@contextlib.asynccontextmanager
async def resources():
    print("lifespan noise")
    yield
    print("lifespan noise")

@tool
def odd() -> str:
    "Odd."
    print("noise")
    sys.__stdout__.write("buffered noise")
    os.write(1, b"noise of the system")
    subprocess.run(["echo", "noise of a child"], check=True)
    return "odd"
"""


@pytest.fixture
def noisy_file(folder: Path) -> Path:
    path = folder / "noisy_tools.py"
    path.write_text(NOISY_TOOLS)
    return path


def wait_until_gone(pid: int, *paths: Path) -> None:
    end_s = time.monotonic() + LONGEST_S
    while is_alive(pid) or any(path.exists() for path in paths):
        assert time.monotonic() < end_s, f"{pid} or its files are left: {paths}"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_the_sidecar_of_a_command_ends_with_it(number: signal.Signals) -> None:
    with started("demo") as process:
        found = read_until(process, r"^sidecar +process (\d+), gRPC at unix:(.+)/api.sock")
        pid, folder = int(found[1]), Path(found[2])
        assert folder.is_dir()
        read_until(process, "started")
        process.send_signal(number)
        process.wait(LONGEST_S)
        wait_until_gone(pid, folder)
        assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)


def test_serve_drains_when_its_terminal_goes(noisy_file: Path) -> None:
    with started("serve", "--tools", noisy_file, "--listen", "127.0.0.1:0") as process:
        read_until(process, "serving 1 tool")
        process.send_signal(signal.SIGHUP)
        read_until(process, "stopped")
        assert process.wait(LONGEST_S) == 0


def test_stdout_is_for_the_commands_own_words(noisy_file: Path) -> None:
    listed = sidecall("tools", "--json", "--tools", noisy_file)
    assert [tool["name"] for tool in json.loads(listed.stdout)] == ["odd"]
    assert "import noise" in listed.stderr
    assert "lifespan noise" in listed.stderr
    called = sidecall("call", "odd", "--tools", noisy_file)
    assert called.stdout == "odd\n"
    for source in ("noise\n", "buffered noise", "noise of the system", "noise of a child"):
        assert source in called.stderr
    assert "noise" not in sidecall("check", "--tools", noisy_file).stdout.replace("noisy", "")
