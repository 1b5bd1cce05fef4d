"""`sidecall batch` where calls wait for a person."""

import json
import os
import pty
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.command import COMMAND, LONGEST_S, environment, read_until, sidecall, started

TOOLS = '''
from pathlib import Path
from sidecall import tool

@tool
def note(text: str) -> str:
    """Writes a line."""
    with Path(__file__).with_name("notes.txt").open("a") as file:
        file.write(text + "\\n")
    return text

@tool(approval="required")
def delete(name: str) -> str:
    """Deletes."""
    return f"deleted {name}"
'''

CALLS: dict[str, Any] = {
    "calls": [
        {"name": "note", "arguments": {"text": "once"}},
        {"name": "delete", "arguments": {"name": "$ref:@1"}},
        {"name": "delete", "arguments": {"name": "b"}},
    ],
    "session_id": "s",
}


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    (folder / "tools.py").write_text(TOOLS)
    (folder / "batch.json").write_text(json.dumps(CALLS))
    address = f"unix:{folder}/api.sock"
    with started("serve", "--tools", folder / "tools.py", "--listen", address) as run:
        read_until(run, "serving 2 tools")
        yield address
        run.terminate()
        assert run.wait(LONGEST_S) == 0


def printed_commands(shown: str) -> list[list[str]]:
    return [shlex.split(line) for line in re.findall(r"^  sidecall batch .*$", shown, re.M)]


def run_printed(words: list[str], *more: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a printed command; the environment says nothing of a sidecar."""
    assert words[0] == "sidecall"
    return sidecall(*words[1:], *more, stdin=stdin)


def test_the_command_that_decides_is_printed_and_works(served: str, folder: Path) -> None:
    def batch(*arguments: object) -> tuple[int, str]:
        done = sidecall("batch", folder / "batch.json", *arguments, SIDECALL_ENDPOINT=served)
        assert "Error" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    code, asked = batch()
    assert code == 1
    assert "2 calls to be approved or rejected by a person" in asked
    assert '@2 delete\n      {"name":"once"}\n' in asked
    first, second = printed_commands(asked)
    request_id = first[first.index("--request-id") + 1]
    ids = [line[line.index("--approve") + 1] for line in (first, second)]

    code, decided = batch("--request-id", request_id, "--approve", ids[0], "--reject", ids[1])
    assert code == 1
    assert "deleted once" in decided
    assert "the call of 'delete' was rejected" in decided
    assert "to be approved" not in decided
    assert (folder / "notes.txt").read_text() == "once\n"


def test_the_printed_commands_work_one_after_the_other_whatever_was_given(
    served: str, folder: Path
) -> None:
    path = folder / "two words.json"
    path.write_text(json.dumps(CALLS["calls"]))
    asked = sidecall(
        *("batch", path, "--endpoint", served, "--mode", "sequential", "--on-failure", "continue"),
        *("--session-id", "it's", "--max-concurrency", 2, "--timeout", "1m30.5s"),
    )
    (first,) = printed_commands(asked.stdout)
    assert first[2:15] == [
        *(str(path), "--endpoint", served, "--mode", "sequential", "--on-failure", "continue"),
        *("--max-concurrency", "2", "--timeout", "90.5s", "--session-id", "it's"),
    ]
    done = run_printed(first)
    assert done.stderr == ""
    assert "deleted once" in done.stdout
    (second,) = printed_commands(done.stdout)
    assert second[:-1] == first[:-1]
    done = run_printed(second)
    assert done.returncode == 0, done.stderr
    assert "deleted b" in done.stdout
    assert (folder / "notes.txt").read_text() == "once\n"


def test_stdin_has_to_be_given_again(served: str, folder: Path) -> None:
    calls = json.dumps([CALLS["calls"][2]])
    asked = sidecall("batch", "-", "--endpoint", served, stdin=calls).stdout
    assert "same input on stdin again" in asked
    (again,) = printed_commands(asked)
    done = run_printed(again, stdin=calls)
    assert done.returncode == 0, done.stderr
    assert "deleted b" in done.stdout
    assert "stdin" not in sidecall("batch", folder / "batch.json", "--endpoint", served).stdout


def test_no_command_is_printed_where_none_could_decide(folder: Path) -> None:
    (folder / "tools.py").write_text(TOOLS)
    calls = json.dumps([CALLS["calls"][2]])
    asked = sidecall("batch", "-", "--tools", folder / "tools.py", stdin=calls)
    assert asked.returncode == 1
    assert '@1 delete\n      {"name":"b"}\n' in asked.stdout
    assert "start a sidecar\n(sidecall serve --tools FILE)" in asked.stdout
    assert "--request-id" not in asked.stdout


def test_arguments_are_shown_whole_and_harmless(served: str) -> None:
    name = "word " * 100 + "\u202e\u2066x\x1b[2J" + "y" * 200
    calls = json.dumps([{"name": "delete", "arguments": {"name": name}}])
    asked = sidecall("batch", "-", "--endpoint", served, stdin=calls).stdout
    lines = asked.partition("@1 delete\n")[2].partition("  sidecall batch")[0].splitlines()
    assert [lines[0].strip(), lines[-1].strip()] == ["{", "}"]
    assert all(len(line) <= 100 for line in lines)
    written = "word " * 100 + "\\u202e\\u2066x\\u001b[2J" + "y" * 200
    assert "".join(line[8:] for line in lines[1:-1]) == f'"name": "{written}"'


def test_json_has_all_that_a_decision_takes(served: str, folder: Path) -> None:
    def batch(*arguments: object) -> tuple[int, Any]:
        done = sidecall("batch", folder / "batch.json", "--endpoint", served, "--json", *arguments)
        return done.returncode, json.loads(done.stdout)

    _, (note, *waiting) = batch()
    only_of_others = {"request_id", "approval_id", "approval_arguments", "approval_decision"}
    assert not {*only_of_others, "failed_attempts"} & set(note)
    assert [json.loads(item["approval_arguments"]) for item in waiting] == [
        {"name": "once"},
        {"name": "b"},
    ]
    again = ("--request-id", waiting[0]["request_id"])
    edit = waiting[1]["approval_id"] + '={"name": "a=b"}'
    code, results = batch(*again, "--approve", waiting[0]["approval_id"], "--edit", edit)
    assert code == 0
    assert [item["content"] for item in results] == ["once", "deleted once", "deleted a=b"]
    assert [item["replayed"] for item in results] == [True, False, False]
    assert not any(item["coalesced"] or "request_id" in item for item in results)
    decisions = [item.get("approval_decision") for item in results]
    assert decisions[0] is None
    assert [item["approved"] for item in decisions[1:]] == [True, True]
    assert [item["arguments_edited"] for item in decisions[1:]] == [False, True]
    assert all(item["decide_time"].endswith("Z") for item in decisions[1:])
    _, explained = batch(*again, "--explain")
    assert [item.get("approval_decision") for item in explained["results"]] == decisions
    assert explained["request_id"] == again[1]
    assert [item["replayed"] for item in explained["results"]] == [True, True, True]


def test_the_model_hears_who_rejected_and_why(served: str) -> None:
    calls = json.dumps([CALLS["calls"][2]])
    given = ("batch", "-", "--endpoint", served, "--json")
    (asked,) = json.loads(sidecall(*given, stdin=calls).stdout)
    decision = ("--reject", asked["approval_id"], "--by", "Ann", "--comment", "Keep it.")
    done = sidecall(*given, "--request-id", asked["request_id"], *decision, stdin=calls)
    (rejected,) = json.loads(done.stdout)
    assert rejected["reason"] == "APPROVAL_REJECTED"
    assert "was rejected by Ann. Keep it." in rejected["content"]


def test_edited_arguments_that_do_not_fit_leave_the_question_open(served: str) -> None:
    calls = json.dumps([CALLS["calls"][2]])
    asked = sidecall("batch", "-", "--endpoint", served, stdin=calls).stdout
    (again,) = printed_commands(asked)
    approval_id = again[-1]
    edited = run_printed(again[:-2], "--edit", f'{approval_id}={{"nam": 1}}', stdin=calls)
    shown = edited.stdout.partition("by a person")[2]
    assert "The edited arguments were not taken" in shown
    assert printed_commands(shown) == [again]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--edit", "id"), "expected ID=JSON"),
        (("--edit", "id=[1]"), "arguments are a JSON object: it is no object"),
        (("--edit", "id={"), "arguments are a JSON object: "),
        (("--approve", "a", "--reject", "a"), "decided on twice: a"),
        (("--approve", ""), "an approval id is empty"),
        (("--by", "Ann"), "--by goes with --approve, --edit or --reject"),
        (("--approve", "a", "--comment", "Yes."), "--comment goes with --reject"),
    ],
)
def test_decisions_that_make_no_sense(options: tuple[str, ...], told: str) -> None:
    done = sidecall("batch", "-", *options, stdin='[{"name": "delete"}]')
    assert done.returncode == 2
    assert told in done.stderr


def test_a_terminal_shows_arguments_whole(served: str, folder: Path) -> None:
    calls = [{"name": "delete", "arguments": {"name": "z" * 300 + "\u202eend"}}]
    (folder / "long.json").write_text(json.dumps(calls))
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: S603  this project's own command
        [*COMMAND, "batch", folder / "long.json", "--endpoint", served],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.STDOUT,
        env=environment(TERM="xterm"),
    )
    os.close(theirs)
    shown = b""
    with process, os.fdopen(terminal, "rb", buffering=0) as screen:
        try:
            while not re.search(rb"--approve [\w-]+\r?\n", shown):
                shown += screen.read(4096)
            assert process.wait(LONGEST_S) == 1
        finally:
            process.kill()
    text = shown.decode().rpartition("@1 delete")[2].partition("  sidecall batch")[0]
    assert text.count("z") == 300
    assert "\u202e" not in text
    assert "\\u202eend" in "".join(text.split())


def test_a_single_call_says_where_to_decide(served: str) -> None:
    done = sidecall("call", "delete", '{"name": "a"}', "--endpoint", served)
    assert done.returncode == 1
    assert "to decide on it, send it with `sidecall batch`" in done.stderr


def test_what_waits_for_a_person_stands_in_no_queue(served: str, folder: Path) -> None:
    done = sidecall("batch", folder / "batch.json", "--endpoint", served, "--explain").stdout
    assert re.search(r"^@2 +waits for approval +delete  Not run", done, re.MULTILINE)
    assert re.search(r"@2 delete +\|[ r]*\| +- +- waits for approval", done)
    assert re.search(r"@3 delete +\| +\| +- +- waits for approval", done)
    assert re.search(r"@3 delete  not run, a person has to approve it$", done, re.M)


def test_a_decision_on_nothing_that_waits(served: str, folder: Path) -> None:
    done = sidecall(
        *("batch", folder / "batch.json", "--request-id", "r", "--approve", "nothing"),
        SIDECALL_ENDPOINT=served,
    )
    assert done.returncode == 1
    assert "APPROVAL_UNKNOWN" in done.stderr
    assert not (folder / "notes.txt").exists()
