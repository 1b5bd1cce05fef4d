import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from sidecall_server.cli import COMMANDS, group
from sidecall_server.cli.output import counted
from sidecall_server.config import OPTIONS
from sidecall_server.core.defaults import Limits

TOOLS = """
from sidecall import tool

@tool(effects="read_only", timeout="5s", max_concurrency=3)
async def look_up(word: str) -> str:
    "Looks a word up."
    return word
"""
BROKEN_TOOLS = {
    "raises": "import nowhere_to_be_found",
    "syntax": "def broken(:",
    "empty": "x = 1",
    "schema": "from sidecall import tool\n@tool\ndef f(x: object()): ...",
}


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("SIDECALL_", "OPENAI_")):
            monkeypatch.delenv(name)


@pytest.fixture
def tools_file(tmp_path: Path) -> Path:
    path = tmp_path / "word_tools.py"
    path.write_text(TOOLS)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    assert "--help" in result.output


def test_each_option_is_explained() -> None:
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        assert command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.opts}"


@pytest.mark.parametrize("name", ["serve", "check"])
def test_each_setting_is_an_option(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    offered = {parameter.name for parameter in command.params}
    assert offered == {*OPTIONS, *(item.name for item in fields(Limits))}


def test_the_list_of_commands_imports_none_of_them() -> None:
    code = (
        "import sys; from sidecall_server.cli import group\n"
        "group(['--help'], standalone_mode=False)\n"
        "heavy = {'grpc', 'rich', 'openai', 'pydantic', 'uvloop', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run(  # noqa: S603  this interpreter, fixed code
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


def test_unknown_command() -> None:
    assert run("sevre").exit_code == 2


def test_check_shows_tools_and_limits(tools_file: Path) -> None:
    result = run("check", "--tools", tools_file, "--max-threads", 7)
    assert result.exit_code == 0, result.output
    assert "ok: 1 tool," in result.output
    (tool,) = (line.split() for line in result.output.splitlines() if "look_up" in line)
    assert tool == ["look_up", "4", "read_only", "3", "5s", "60s"]
    (threads,) = (line.split() for line in result.output.splitlines() if "max_threads" in line)
    assert threads == ["max_threads", "7"]


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize("broken", BROKEN_TOOLS)
def test_broken_tools_end_with_64(command: str, broken: str, tmp_path: Path) -> None:
    path = tmp_path / f"{broken}_tools.py"
    path.write_text(BROKEN_TOOLS[broken])
    result = run(command, "--tools", path, "--listen", "127.0.0.1:0")
    assert result.exit_code == 64
    assert str(path) in result.output
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--max-threads", "many"], "--max-threads"),
        (["--max-threads", "0"], "--max-threads"),
        (["--timeout", "soon"], "--timeout"),
        (["--timeout", "0"], "--timeout"),
        (["--queue-timeout", "0s"], "--queue-timeout"),
        (["--timeout", "9999999999"], "--timeout"),
        (["--drain-timeout", "9" * 400], "--drain-timeout"),
        (["--max-message-bytes", "65535"], "--max-message-bytes"),
        (["--max-message-bytes", "2147483648"], "--max-message-bytes"),
        (["--max-queue", "1" + "0" * 5000], "--max-queue"),
        (["--max-threads", "65537"], "--max-threads"),
        (["--max-concurrency", "4", "--max-batch-concurrency", "5"], "--max-batch-concurrency"),
        (["--listen", "nowhere"], "--listen"),
        (["--health-listen", "nowhere"], "--health-listen"),
        (["--listen", "0.0.0.0:50071"], "loopback"),
        (["--log-level", "LOUD"], "--log-level: 'LOUD'"),
    ],
)
def test_wrong_settings_end_with_64(
    command: str, flags: list[str], named: str, tools_file: Path
) -> None:
    result = run(command, "--tools", tools_file, *flags)
    assert result.exit_code == 64
    assert named in result.output
    assert len(result.output.splitlines()) == 1
    assert len(result.output) < 250


def test_health_may_be_served_beyond_this_machine(tools_file: Path) -> None:
    assert run("check", "--tools", tools_file, "--health-listen", "0.0.0.0:50072").exit_code == 0


def test_the_default_of_a_batch_gives_way_to_the_sidecars_bound(tools_file: Path) -> None:
    result = run("check", "--tools", tools_file, "--max-concurrency", "4")
    rows = [line.split() for line in result.output.splitlines()]
    assert ["max_batch_concurrency", "4"] in rows


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, tools_file: Path) -> None:
    for variable, value in (("SIDECALL_MAX_QUEUE", "-1"), ("SIDECALL_LOG_LEVEL", "LOUD")):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            result = run("check", "--tools", tools_file)
        assert result.exit_code == 64
        assert variable in result.output


def test_without_tools_there_is_a_hint() -> None:
    result = run("check")
    assert result.exit_code == 0
    assert "--tools" in result.output
    assert "applications" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["call"],
        ["call", "x", "{}", "--timeout", "soon"],
        ["call", "x", "--endpoint", "nowhere"],
        ["call", "x", "--endpoint", "127.0.0.1:99999"],
        ["call", "x", "--endpoint", "127.0.0.1:0"],
        ["call", "x", "{}", "--timeout", "999999999999"],
        ["tools", "--format", "other"],
        ["batch", "/nowhere/to/be/found.json"],
        ["batch", "-", "--mode", "random"],
        ["bench", "strategies", "--tools-count", "0"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_endpoint_and_tools_exclude_each_other(tools_file: Path) -> None:
    result = run("tools", "--endpoint", "127.0.0.1:1", "--tools", tools_file)
    assert result.exit_code == 2
    assert "exclude each other" in result.output


def test_a_file_without_calls_ends_with_2(tmp_path: Path) -> None:
    path = tmp_path / "batch.json"
    path.write_text("{}")
    result = run("batch", path)
    assert result.exit_code == 2
    assert "no calls found" in result.output


def test_chat_without_a_model_says_what_to_do() -> None:
    result = run("chat", "hello")
    assert result.exit_code == 64
    assert "OPENAI_API_KEY" in result.output
    assert "--scripted" in result.output


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--api-key", "é"], "OPENAI_API_KEY"),
        (["--api-key", "two\nlines"], "OPENAI_API_KEY"),
        (["--base-url", "somewhere"], "OPENAI_BASE_URL"),
        (["--base-url", "http://[::"], "OPENAI_BASE_URL"),
        (["--base-url", "http://127.0.0.1:99999/v1"], "OPENAI_BASE_URL"),
    ],
)
@pytest.mark.parametrize("command", ["chat", "demo"])
def test_what_no_provider_takes_ends_with_64(command: str, flags: list[str], named: str) -> None:
    result = run(command, *flags)
    assert result.exit_code == 64
    assert named in result.output
    assert len(result.output.splitlines()) == 1


def test_a_folder_is_no_file_of_tools(tmp_path: Path) -> None:
    result = run("check", "--tools", tmp_path)
    assert result.exit_code == 64
    assert "is a folder" in result.output


def test_one_tool_is_counted_as_one() -> None:
    assert [counted(number, "tool") for number in (0, 1, 2)] == ["0 tools", "1 tool", "2 tools"]
