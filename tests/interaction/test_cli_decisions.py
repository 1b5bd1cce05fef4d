"""`sidecall batch` where calls wait for a person."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.command import LONGEST_S, read_until, sidecall, started

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

CALLS = {
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


def test_the_command_that_decides_is_printed_and_works(served: str, folder: Path) -> None:
    def batch(*arguments: object) -> tuple[int, str]:
        done = sidecall("batch", folder / "batch.json", *arguments, SIDECALL_ENDPOINT=served)
        assert "Error" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    code, asked = batch()
    assert code == 1
    assert "2 calls to be approved (--approve) or rejected (--reject):" in asked
    assert 'delete {"name":"once"}' in asked
    first, second = (
        shlex.split(line) for line in re.findall(r"^  sidecall batch .*$", asked, re.M)
    )
    request_id = first[first.index("--request-id") + 1]
    ids = [line[line.index("--approve") + 1] for line in (first, second)]

    code, decided = batch("--request-id", request_id, "--approve", ids[0], "--reject", ids[1])
    assert code == 1
    assert "deleted once" in decided
    assert "the call of 'delete' was rejected" in decided
    assert "to be approved" not in decided
    assert (folder / "notes.txt").read_text() == "once\n"


def test_a_decision_on_nothing_that_waits(served: str, folder: Path) -> None:
    done = sidecall(
        *("batch", folder / "batch.json", "--request-id", "r", "--approve", "nothing"),
        SIDECALL_ENDPOINT=served,
    )
    assert done.returncode == 1
    assert "APPROVAL_UNKNOWN" in done.stderr
    assert not (folder / "notes.txt").exists()
