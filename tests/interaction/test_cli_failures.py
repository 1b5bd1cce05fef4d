"""How commands end where something is missing, closed or broken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.command import COMMAND, LONGEST_S, environment, sidecall

WITHOUT_PACKAGE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from sidecall_server.__main__ import main
sys.exit(main())
"""
BROKEN_COMMAND = """
import sys
import sidecall_server.cli
def main():
    raise {error}
sidecall_server.cli.main = main
from sidecall_server.__main__ import main
sys.exit(main())
"""


def python(code: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  this interpreter, code of this file
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_S,
        env=environment(**more),
    )


def in_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a line in which $0 is the command and $1 a file of tools."""
    tools = folder / "shell_tools.py"
    tools.write_text(
        'from sidecall import tool\n\n@tool\ndef odd() -> str:\n    "Odd."\n    return "odd"\n'
    )
    program = folder / "command"
    program.write_text(f'#!/bin/sh\nexec {COMMAND[0]} -m sidecall_server "$@"\n')
    program.chmod(0o700)
    return subprocess.run(  # noqa: S603  this project's own command
        ["/bin/sh", "-c", line, str(program), str(tools)],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONGEST_S,
        env=environment(),
    )


@pytest.mark.parametrize("package", ["click", "rich", "grpc_health"])
def test_without_the_servers_packages_one_line_says_what_to_install(package: str) -> None:
    done = python(WITHOUT_PACKAGE.format(package=package), "tools", "--tools", "none.py")
    assert done.returncode == 64
    assert "pip install 'sidecall[server]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_unexpected_error_is_one_line() -> None:
    code = BROKEN_COMMAND.format(error="RuntimeError('no idea\\nat all')")
    done = python(code)
    assert done.returncode == 70
    assert done.stderr == (
        "sidecall: internal error: RuntimeError: no idea (SIDECALL_DEBUG=1 shows the traceback)\n"
    )
    assert "Traceback" in python(code, SIDECALL_DEBUG="1").stderr


def test_an_early_interrupt_ends_with_130() -> None:
    done = python(BROKEN_COMMAND.format(error="KeyboardInterrupt"))
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device")  # noqa: PTH110
def test_output_that_cannot_be_written_is_one_line(folder: Path) -> None:
    for line in ('"$0" call odd --tools "$1" >/dev/full', '"$0" --help >/dev/full'):
        done = in_shell(line, folder)
        assert done.returncode == 74
        assert done.stderr == "sidecall: [Errno 28] No space left on device\n"


def test_nobody_reads_the_output(folder: Path) -> None:
    done = in_shell('("$0" tools --json --tools "$1"; echo $? >&2) | true', folder)
    assert done.stderr in ("1\n", "0\n")


def test_closed_output_is_no_error(folder: Path) -> None:
    done = in_shell('"$0" call odd --tools "$1" >&-', folder)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", ["call odd -", "batch -"])
def test_closed_input_is_named(arguments: str, folder: Path) -> None:
    done = in_shell(f'"$0" {arguments} --tools "$1" <&-', folder)
    assert done.returncode == 2
    assert "stdin is closed" in done.stderr


def test_the_exit_codes_are_listed() -> None:
    listed = sidecall("--help").stdout
    for code in (0, 1, 2, 64, 69, 70, 74):
        assert f"\n    {code:<5}" in listed
