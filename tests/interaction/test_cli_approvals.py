"""`sidecall chat` asks at a terminal, in processes of its own."""

import os
import pty
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.command import COMMAND, LONGEST_S, environment, read_until, sidecall, started

TOOLS = """
from sidecall import tool
from sidecall_server.demo.city_tools import find_contact, get_news, get_time, get_weather

@tool(approval="required")
def send_postcard(to: str, text: str) -> dict[str, str]:
    "Sends a postcard."
    return {"to": to, "text": text}
"""


@pytest.fixture
def tools_file(folder: Path) -> Path:
    path = folder / "careful_tools.py"
    path.write_text(TOOLS)
    return path


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._unread = ""

    def wait_for(self, text: str) -> str:
        """Reads until the text has been shown; returns what was shown before it."""
        while text not in self._unread:
            try:
                part = os.read(self._descriptor, 4096).decode(errors="replace")
            except OSError:
                raise AssertionError(f"{text!r} was not shown:\n{self._unread}") from None
            # Where a line is folded or coloured is not the matter here.
            self._unread += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", part)
        before, _, self._unread = self._unread.partition(text)
        return before

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())


@contextmanager
def chat(tools: Path, *arguments: str) -> Iterator[Terminal]:
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603  this project's own command
        [*COMMAND, "chat", *arguments, "--scripted", "--no-waterfall", "--tools", tools],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="dumb"),
        start_new_session=True,
    )
    os.close(theirs)
    try:
        with process:
            try:
                yield Terminal(process, terminal)
            finally:
                process.kill()
    finally:
        os.close(terminal)


def test_a_call_is_approved_at_the_terminal(tools_file: Path) -> None:
    with chat(tools_file, "anything") as terminal:
        shown = terminal.wait_for("leave it open? ")
        assert "@4 send_postcard needs approval to run with" in shown
        assert "Greetings! In Reykjavik" in " ".join(shown.split())
        terminal.type("y\n")
        terminal.wait_for("@4 approved")
        terminal.wait_for("postcard reads: Greetings!")
        assert terminal.process.wait(LONGEST_S) == 0


def test_a_call_is_rejected_at_the_terminal_and_the_model_hears_why(tools_file: Path) -> None:
    with chat(tools_file, "anything") as terminal:
        terminal.wait_for("leave it open? ")
        terminal.type("n I did not ask for it\n")
        terminal.wait_for("rejected: I did not ask for it")
        terminal.wait_for("postcard reads: unknown")
        assert terminal.process.wait(LONGEST_S) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_the_question_ends_the_command(
    tools_file: Path, number: signal.Signals
) -> None:
    with chat(tools_file, "anything") as terminal:
        terminal.wait_for("leave it open? ")
        terminal.process.send_signal(number)
        assert terminal.process.wait(LONGEST_S) == 128 + number


def test_ctrl_c_at_the_question_keeps_the_conversation(tools_file: Path) -> None:
    with chat(tools_file) as terminal:
        terminal.wait_for("you> ")
        terminal.type("anything\n")
        terminal.wait_for("leave it open? ")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("the conversation goes on")
        terminal.wait_for("you> ")
        terminal.type("\x04")
        assert terminal.process.wait(LONGEST_S) == 0


def test_nothing_is_approved_without_a_terminal(tools_file: Path) -> None:
    done = sidecall("chat", "anything", "--scripted", "--tools", tools_file)
    assert done.returncode == 0, done.stderr
    assert "postcard reads: unknown" in " ".join(done.stdout.split())
    assert "waits for approval" in done.stdout
    assert "failed" not in done.stdout
    assert "1 call left open: with --tools the questions are gone" in done.stdout


def test_what_a_chat_left_open_can_be_decided_later(tools_file: Path, folder: Path) -> None:
    address = f"unix:{folder}/api.sock"
    with started("serve", "--tools", tools_file, "--listen", address) as process:
        read_until(process, "serving")
        done = sidecall("chat", "anything", "--scripted", "--endpoint", address)
        assert done.returncode == 0, done.stderr
        after = done.stdout.partition("save the turn's calls as calls.json:\n")[2]
        calls = folder / "calls.json"
        calls.write_text(after.splitlines()[0])
        (command,) = re.findall(r"sidecall batch calls\.json (.*)", after)
        decided = sidecall("batch", calls, *shlex.split(command))
        assert decided.returncode == 0, decided.stdout
        assert re.search(r"^@4 +ok +send_postcard", decided.stdout, re.MULTILINE)
        assert "kept from an earlier send" in decided.stdout
        process.terminate()
        assert process.wait(LONGEST_S) == 0
