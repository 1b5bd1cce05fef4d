"""`sidecall batch --explain` in a process of its own."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest
from tests.support.command import COMMAND, LONGEST_S, environment, sidecall

TOOLS = '''
import asyncio
from sidecall import tool

@tool(effects="read_only", max_concurrency=1)
async def one(text: str) -> str:
    """Takes its time, one at a time.

    Args:
        text: What to say.
    """
    await asyncio.sleep(0.05)
    return text
'''

FLAKY = '''
from sidecall import tool

seen = []

@tool(effects="read_only", retry={"attempts": 2, "backoff": "1ms", "on": ["UNKNOWN"]})
def flaky() -> int:
    """Fails at first."""
    seen.append(1)
    if len(seen) == 1:
        raise ConnectionError("not yet")
    return len(seen)
'''

CALLS = [
    {"name": "one", "arguments": {"text": "a"}},
    {"name": "one", "arguments": {"text": "b"}},
    {"name": "one", "arguments": {"text": "$ref:@2"}},
]


@pytest.fixture
def tools_file(folder: Path) -> Path:
    path = folder / "slow_tools.py"
    path.write_text(TOOLS)
    return path


def explained(tools_file: Path, *arguments: str) -> str:
    done = sidecall(
        *("batch", "-", "--explain", "--tools", tools_file, *arguments), stdin=json.dumps(CALLS)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_calls_waited_for(tools_file: Path) -> None:
    lines = [line.strip() for line in explained(tools_file).splitlines()]
    assert lines.index("blocked on (* decided when the batch ended)") > lines.index(
        "@1   ok     one  a"
    )
    (limited,) = [line for line in lines if line.startswith("* @2 one  its tool's limit ")]
    assert limited.endswith(" ms")
    assert any(line.startswith("* @3 one  another call's result ") for line in lines)
    path = [line.split()[0] for line in lines[lines.index("critical path") + 1 :][:3]]
    assert path == ["@1", "@2", "@3"]
    assert any(
        line.endswith("its tool's limit (@2): raise max_concurrency of one") for line in lines
    )
    assert lines[-1].startswith("3 calls took ")
    assert "one after the other they would have taken " in lines[-1]


def test_json(tools_file: Path) -> None:
    value = json.loads(explained(tools_file, "--json"))
    assert [result["content"] for result in value["results"]] == ["a", "b", "b"]
    waits = [list(result["blocked_s"]) for result in value["results"]]
    assert waits == [[], ["tool_limit"], ["reference"]]
    schedule = value["schedule"]
    steps = [(step["index"], step["cause"]) for step in schedule["critical_path"]]
    assert steps == [(0, None), (1, "tool_limit"), (2, "reference")]
    spent = sum(step["waiting_s"] + step["running_s"] for step in schedule["critical_path"])
    assert spent == pytest.approx(schedule["duration_s"])
    assert schedule["speed_up"] == pytest.approx(schedule["sequential_s"] / schedule["duration_s"])


def test_json_tells_of_failed_attempts(folder: Path) -> None:
    path = folder / "flaky_tools.py"
    path.write_text(FLAKY)
    done = sidecall("batch", "-", "--json", "--tools", path, stdin='[{"name": "flaky"}]')
    (result,) = json.loads(done.stdout)
    assert (result["content"], result["attempts"]) == ("2", 2)
    (attempt,) = result["failed_attempts"]
    assert attempt["reason"] == "TOOL_FAILED"
    assert 0 <= attempt["started_s"] <= attempt["finished_s"] <= result["started_s"]


def test_a_sidecar_that_cannot_know_the_batch_refuses_it(tools_file: Path) -> None:
    sent = ("batch", "-", "--explain", "--json", "--tools", tools_file, "--request-id", "r")
    first = sidecall(*sent, stdin=json.dumps(CALLS))
    told = json.loads(first.stdout)
    assert told["request_id"] == "r"
    # Each of these commands has a sidecar of its own, so the second is another one.
    again = sidecall(*sent, "--sent-to-instance", told["sent_to_instance"], stdin=json.dumps(CALLS))
    assert "REQUEST_FORGOTTEN" in again.stderr
    assert again.stdout == ""


def test_nothing_is_explained_that_was_not_asked_for(tools_file: Path) -> None:
    calls = json.dumps(CALLS[:1])
    done = sidecall("batch", "-", "--tools", tools_file, stdin=calls)
    assert "critical path" not in done.stdout
    plain = json.loads(sidecall("batch", "-", "--json", "--tools", tools_file, stdin=calls).stdout)
    assert [result["content"] for result in plain] == ["a"]


def test_a_terminal_shows_it_after_the_picture(tools_file: Path, folder: Path) -> None:
    (folder / "batch.json").write_text(json.dumps(CALLS))
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603  this project's own command
        [*COMMAND, "batch", folder / "batch.json", "--explain", "--tools", tools_file],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.STDOUT,
        env=environment(TERM="xterm"),
    )
    os.close(theirs)
    shown = b""
    with process, os.fdopen(terminal, "rb", buffering=0) as screen:
        try:
            while b"one after the other they would have taken" not in shown:
                shown += screen.read(4096)
            assert process.wait(LONGEST_S) == 0
        finally:
            process.kill()
    assert b"3 of 3 done" in shown
    path = shown.decode().partition("critical path")[2].splitlines()[1:4]
    assert [line.split()[0] for line in path] == ["@1", "@2", "@3"]
