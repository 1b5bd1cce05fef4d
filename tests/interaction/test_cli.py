"""The command line in processes of its own."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.command import LONGEST_S, is_alive, read_until, sidecall, started

TOOLS = '''
import os
from pathlib import Path
from sidecall import ToolError, tool

@tool(effects="read_only")
async def echo(text: str) -> str:
    """Says what it is told.

    Args:
        text: What to say.
    """
    return text

@tool
def refuse(why: str) -> None:
    """Fails."""
    raise ToolError(why, code="ABORTED")
'''


@pytest.fixture
def tools_file(folder: Path) -> Path:
    path = folder / "echo_tools.py"
    path.write_text(TOOLS)
    return path


@pytest.fixture
def served(tools_file: Path, folder: Path) -> Iterator[str]:
    """The address of a sidecar that serves the tools; it must end well on SIGTERM."""
    address = f"unix:{folder}/api.sock"
    with started("serve", "--tools", tools_file, "--listen", address) as process:
        read_until(process, "serving 2 tools")
        yield address
        process.terminate()
        assert process.wait(LONGEST_S) == 0


def test_tools_of_a_running_sidecar(served: str) -> None:
    table = sidecall("tools", SIDECALL_ENDPOINT=served)
    assert table.returncode == 0
    assert ["echo", "text", "read_only", "Says", "what", "it", "is", "told."] in [
        line.split() for line in table.stdout.splitlines()
    ]
    value = json.loads(sidecall("tools", "--json", "--endpoint", served).stdout)
    assert value["revision"]
    listed = value["tools"]
    assert [tool["name"] for tool in listed] == ["echo", "refuse"]
    assert listed[0]["input_schema"]["required"] == ["text"]
    chat = json.loads(sidecall("tools", "--format", "openai-chat", "--endpoint", served).stdout)
    assert chat[0]["function"]["name"] == "echo"
    flat = json.loads(
        sidecall("tools", "--format", "openai-responses", "--endpoint", served).stdout
    )
    assert flat[0]["name"] == "echo"


def test_call(served: str) -> None:
    done = sidecall("call", "echo", '{"text": "\x1b[1m天気\\n"}', "--endpoint", served)
    assert done.returncode == 1, "a raw control character is not JSON"
    done = sidecall("call", "echo", "-", "--endpoint", served, stdin='{"text": "天気"}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "天気\n", "")


def test_a_call_that_fails(served: str) -> None:
    done = sidecall("call", "refuse", '{"why": "not today"}', "--endpoint", served)
    assert (done.returncode, done.stdout) == (1, "not today\n")
    assert done.stderr == "refuse: ABORTED/TOOL_FAILED, execution state completed\n"
    unknown = sidecall("call", "ecko", "--endpoint", served)
    assert unknown.returncode == 1
    assert "'echo'" in unknown.stdout


def test_batch(served: str) -> None:
    calls = [
        {"name": "echo", "arguments": {"text": "one"}, "id": "a"},
        {"name": "echo", "arguments": '{"text": "${ref:a} and two"}'},
        {"name": "refuse", "arguments": {"why": "no"}, "depends_on": ["@2"]},
    ]
    done = sidecall("batch", "-", "--endpoint", served, stdin=json.dumps(calls))
    assert done.returncode == 1
    assert "one and two" in done.stdout
    assert "waits for another call's result" in done.stdout
    assert "\x1b" not in done.stdout
    good = sidecall("batch", "-", "--json", "--endpoint", served, stdin=json.dumps(calls[:2]))
    assert good.returncode == 0
    assert [result["content"] for result in json.loads(good.stdout)] == ["one", "one and two"]


def test_batch_options(served: str) -> None:
    calls = [
        {"name": "refuse", "arguments": {"why": "no"}},
        {"name": "echo", "arguments": {"text": "never"}},
    ]
    done = sidecall(
        *("batch", "-", "--json", "--mode", "sequential", "--on-failure", "stop"),
        *("--max-concurrency", "1", "--timeout", "30s", "--endpoint", served),
        stdin=json.dumps(calls),
    )
    assert [result["reason"] for result in json.loads(done.stdout)] == ["TOOL_FAILED", "STOPPED"]


def test_what_a_file_says_about_its_batch(served: str) -> None:
    calls = [{"name": "refuse", "arguments": {"why": "no"}}, {"name": "echo"}]
    said = {"calls": calls, "mode": "sequential", "on_failure": "stop", "timeout": "30s"}
    batch = ("batch", "-", "--json", "--endpoint", served)
    done = sidecall(*batch, stdin=json.dumps(said))
    assert [result["reason"] for result in json.loads(done.stdout)] == ["TOOL_FAILED", "STOPPED"]
    done = sidecall(*batch, "--on-failure", "continue", stdin=json.dumps(said))
    assert json.loads(done.stdout)[1]["reason"] != "STOPPED"


def test_results_are_whole_where_no_terminal_shows_them(served: str) -> None:
    long, lines = "long " * 100 + "end", "first\nsecond"
    calls = [{"name": "echo", "arguments": {"text": text}} for text in (long, lines)]
    done = sidecall("batch", "-", "--endpoint", served, stdin=json.dumps(calls))
    assert f"echo  {long}\n" in done.stdout
    assert f"echo\n{lines}\n" in done.stdout


def test_a_taken_address_ends_with_1(served: str, tools_file: Path) -> None:
    done = sidecall("serve", "--tools", tools_file, "--listen", served)
    assert done.returncode == 1
    assert done.stderr == f"Error: {served}: another process listens on it\n"


def test_a_taken_port_ends_with_1_and_one_line(tools_file: Path) -> None:
    with started("serve", "--tools", tools_file, "--listen", "127.0.0.1:0") as process:
        address = read_until(process, r"on (127\.0\.0\.1:\d+)")[1]
        done = sidecall("serve", "--tools", tools_file, "--listen", address)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {address}: cannot listen")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_broken_file_of_tools_ends_with_64(command: str, folder: Path) -> None:
    path = folder / "broken_tools.py"
    path.write_text("from sidecall import tool\n\nraise RuntimeError('not yet')\n")
    done = sidecall(command, "--tools", path, "--listen", f"unix:{folder}/api.sock")
    assert done.returncode == 64
    assert f"RuntimeError: not yet ({path}:3)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "api.sock").exists()


@pytest.mark.parametrize("arguments", [["tools"], ["call", "echo"], ["batch", "-"]])
def test_without_a_sidecar_commands_end_with_69(arguments: list[str], folder: Path) -> None:
    done = sidecall(*arguments, "--endpoint", f"unix:{folder}/none.sock", stdin="[]")
    assert done.returncode == 69
    assert "sidecall serve --tools" in done.stderr
    assert "Traceback" not in done.stderr


def test_tools_can_be_served_for_one_command(tools_file: Path, folder: Path) -> None:
    done = sidecall("call", "echo", '{"text": "hi"}', "--tools", tools_file, TMPDIR=str(folder))
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert [path.name for path in folder.iterdir() if path.is_dir()] in ([], ["__pycache__"])
    broken = sidecall("call", "echo", "--tools", folder / "nowhere.py")
    assert broken.returncode == 64


def test_the_examples_can_be_served() -> None:
    example = Path(__file__).parents[2] / "examples" / "city_tools.py"
    done = sidecall("call", "get_weather", '{"location": "Tokyo"}', "--tools", example)
    assert done.returncode == 0
    assert json.loads(done.stdout)["location"] == "Tokyo"


def test_bench_strategies() -> None:
    done = sidecall("bench", "strategies", "--tools-count", "2", "--seconds", "0.05")
    assert done.returncode == 0, done.stderr
    rows = [line.split()[0] for line in done.stdout.splitlines() if " s " in line][1:]
    assert rows == ["sequential", "threads", "gather", "sidecar"]


def test_chat_answers_one_question() -> None:
    done = sidecall("chat", "anything", "--scripted", "--no-waterfall", "--api", "responses")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("✓") == 9
    assert "postcard reads: Greetings!" in " ".join(done.stdout.split())
    assert "outcome" not in done.stdout


def test_chat_takes_questions_from_stdin() -> None:
    done = sidecall("chat", "--scripted", stdin="one\n\ntwo\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("✓") == 18
    assert done.stdout.count("outcome") == 4


def test_chat_with_a_model_that_does_not_answer(tools_file: Path) -> None:
    done = sidecall(
        *("chat", "hello", "--tools", tools_file),
        *("--api-key", "none", "--base-url", "http://127.0.0.1:1/v1"),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the model gave no answer: http://127.0.0.1:1/v1/")
    assert len(done.stderr.splitlines()) == 1


def test_marks_are_ascii_where_nothing_else_can_be_printed() -> None:
    done = sidecall("chat", "anything", "--scripted", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    for shown in ("-> @5 get_news", "> @1 started", "+ @4", "..."):
        assert shown in done.stdout
    assert "\\u" not in done.stdout


def test_demo_without_a_key() -> None:
    done = sidecall("demo")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for shown in ("Question", "→ @5 get_news", "✓ @4", "waits for @1", "times as fast"):
        assert shown in done.stdout
    assert "postcard reads: Greetings! In Reykjavik" in " ".join(done.stdout.split())
    for strategy in ("sequential", "threads", "gather", "sidecar"):
        assert re.search(rf"^{strategy} +\d\.\d+ s", done.stdout, re.MULTILINE)
    assert "serve --tools sidecall_server.demo.city_tools" in done.stdout
    (pid,) = re.findall(r"^sidecar +process (\d+)", done.stdout, re.MULTILINE)
    assert not is_alive(int(pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_cleans_up_when_it_is_stopped(number: signal.Signals) -> None:
    with started("demo") as process:
        pid = int(read_until(process, r"^sidecar +process (\d+)")[1])
        read_until(process, "started")
        assert is_alive(pid)
        process.send_signal(number)
        assert process.wait(LONGEST_S) == 128 + number
        assert not is_alive(pid)
