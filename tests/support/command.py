"""The command line in processes of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

COMMAND = (sys.executable, "-m", "sidecall_server")
LONGEST_S = 100


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIDECALL_", "OPENAI_"))}
    return {**kept, "COLUMNS": "100", **more}


def sidecall(*arguments: object, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  this project's own command
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_S,
        env=environment(**more),
    )


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(  # noqa: S603  this project's own command
        [*COMMAND, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(PYTHONUNBUFFERED="1"),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Reads the output up to a line that fits; the test's timeout bounds it."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"no line fits {pattern!r}:\n{read}")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
