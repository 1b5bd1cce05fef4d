"""What commands start ends with them, and prints nothing between their own words."""

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path
from typing import IO

import pytest
from tests.support.command import (
    COMMAND,
    LONGEST_S,
    environment,
    is_alive,
    read_until,
    sidecall,
    started,
)

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
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603  this project's own command
        [*COMMAND, "serve", "--tools", noisy_file, "--listen", "127.0.0.1:0"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(PYTHONUNBUFFERED="1"),
    )
    os.close(theirs)
    with process, os.fdopen(terminal, "rb"):
        try:
            read_until(process, "serving 1 tool")
            process.send_signal(signal.SIGHUP)
            read_until(process, "stopped")
            assert process.wait(LONGEST_S) == 0
        finally:
            process.kill()


def test_serve_reloads_at_a_hang_up_where_it_has_no_terminal(noisy_file: Path) -> None:
    with started("serve", "--tools", noisy_file, "--listen", "127.0.0.1:0") as process:
        read_until(process, "serving 1 tool")
        noisy_file.write_text(NOISY_TOOLS.replace("def odd", "def even"))
        process.send_signal(signal.SIGHUP)
        read_until(process, "added: even; removed: odd")
        process.send_signal(signal.SIGTERM)
        read_until(process, "stopped")
        assert process.wait(LONGEST_S) == 0


def test_stdout_is_for_the_commands_own_words(noisy_file: Path) -> None:
    listed = sidecall("tools", "--json", "--tools", noisy_file)
    assert [tool["name"] for tool in json.loads(listed.stdout)["tools"]] == ["odd"]
    assert "import noise" in listed.stderr
    assert "lifespan noise" in listed.stderr
    called = sidecall("call", "odd", "--tools", noisy_file)
    assert called.stdout == "odd\n"
    for source in ("noise\n", "buffered noise", "noise of the system", "noise of a child"):
        assert source in called.stderr
    assert "noise" not in sidecall("check", "--tools", noisy_file).stdout.replace("noisy", "")


SLOW_TOOLS = """
import asyncio
from sidecall import tool

@tool
async def slow(seconds: float) -> str:
    "Waits."
    await asyncio.sleep(seconds)
    return f"slept for {seconds} s"
"""


def test_ctrl_c_leaves_the_results_of_a_batch_on_the_terminal(folder: Path) -> None:
    (folder / "slow_tools.py").write_text(SLOW_TOOLS)
    calls = [{"name": "slow", "arguments": {"seconds": seconds}} for seconds in (0, 1000)]
    (folder / "batch.json").write_text(json.dumps(calls))
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603  this project's own command
        [*COMMAND, "batch", folder / "batch.json", "--tools", folder / "slow_tools.py"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm"),
    )
    os.close(theirs)
    with process, os.fdopen(terminal, "rb", buffering=0) as screen:
        try:
            shown = b""
            while b"1 of 2 done" not in shown:
                shown += screen.read(4096)
            process.send_signal(signal.SIGINT)
            last = _rest(screen)
            assert process.wait(LONGEST_S) == 128 + signal.SIGINT
        finally:
            process.kill()
    *_, result, message = last.decode().splitlines()
    assert "slept for 0.0 s" in result or "slept for 0 s" in result
    assert message == "stopped: 1 of 2 calls had ended"


def _rest(screen: IO[bytes]) -> bytes:
    """What is shown until the terminal is closed, which Linux tells as an error."""
    shown = b""
    try:
        while part := screen.read(4096):
            shown += part
    except OSError:
        pass
    return shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_chat_that_waits_for_a_question_ends(number: signal.Signals, folder: Path) -> None:
    process = subprocess.Popen(  # noqa: S603  this project's own command
        [*COMMAND, "chat", "--scripted"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(PYTHONUNBUFFERED="1", TMPDIR=str(folder)),
    )
    with process:
        try:
            assert process.stdin is not None
            process.stdin.write("one\n")
            process.stdin.flush()
            read_until(process, "postcard reads")
            process.send_signal(number)
            _, errors = process.communicate(timeout=LONGEST_S)
        finally:
            process.kill()
    assert "Traceback" not in errors
    if number == signal.SIGINT and "goes on" in errors:
        assert process.returncode == 0, "it came while the answer was still printed"
    else:
        assert process.returncode == 128 + number
    assert list(folder.iterdir()) == []
