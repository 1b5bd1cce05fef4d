"""The configuration file, as the commands read and show it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import jsonschema_rs
import pytest
from tests.support.command import LONGEST_S, read_until, sidecall, started

from sidecall_server.config.yaml_nodes import read_yaml

TOOLS = """
from sidecall import tool


@tool(effects="read_only", timeout="5s", cache_ttl="1m")
async def get_weather(city: str) -> str:
    "Says what the weather is like."
    return f"sunny in {city}"


@tool(max_queue=7)
def transfer(account_id: str, amount: float) -> str:
    "Moves money."
    return "done"
"""
CONFIG = """
timeout: 30s
max_threads: 20
tools:
  - python: bank_tools.py
limits:
  bank: {max_concurrency: 8, rate: 30/s}
policies:
  "*": {rate: 10/s, queue_timeout: 2s}
  transfer:
    lane: "account:{account_id}"
    approval: required
    retry: {attempts: 3}
    limits: [bank]
"""

Write = Callable[..., Path]


@pytest.fixture
def write(folder: Path) -> Write:
    """Writes the tools and a configuration file, and returns its path."""

    def write(text: str = CONFIG) -> Path:
        (folder / "bank_tools.py").write_text(TOOLS)
        path = folder / "sidecall.yaml"
        path.write_text(text)
        return path

    return write


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_check_shows_what_is_in_force(write: Write) -> None:
    done = sidecall("check", "--config", write(), "--request-retention", "8759h")
    assert done.returncode == 0, done.stderr
    shown = rows(done.stdout)
    assert ["get_weather", "5", "read_only", "512", "5s", "2s"] in shown
    assert ["transfer", "11", "non_idempotent", "10", "30s", "2s"] in shown
    assert "get_weather   rate 10/s; cache 60s" in done.stdout
    assert "approval; rate 10/s; limits bank; lane account:{account_id}; 3 attempts" in done.stdout
    assert ["bank", "8", "30/s", "1"] in shown
    assert ["timeout", "30s"] in shown
    assert ["request_retention", "365", "days"] in shown
    assert done.stdout.endswith("ok: 2 tools, settings are right, 1 warning\n")


def test_check_warns_of_retries_that_repeat_nothing(write: Write) -> None:
    path = write()
    done = sidecall("check", "--config", path)
    assert (
        f"warning: {path}:13: retry of 'transfer' never repeats what the tool itself fails with, "
        "since it is non_idempotent; only attempts that did not reach it are made again"
    ) in done.stdout.splitlines()
    path = write(CONFIG.replace("retry: {", "effects: idempotent\n    retry: {"))
    assert "warning" not in sidecall("check", "--config", path).stdout


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("1500ms", "1500ms"),
        ("90s", "90s"),
        ("0.0000001s", "0.1 us"),
        ("8760h", "365 days"),
        ("0.123456789s", "0.1235s"),
    ],
)
def test_check_shows_durations_that_can_be_read(write: Write, said: str, shown: str) -> None:
    done = sidecall("check", "--config", write(CONFIG.replace("2s", said)))
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("transfer")]
    assert lines[0].rstrip().endswith(f" {shown}")


def test_check_warns_of_policies_that_match_nothing(write: Write) -> None:
    path = write(CONFIG + "  get_wether: {timeout: 1s}\n")
    done = sidecall("check", "--config", path)
    assert done.returncode == 0, done.stderr
    assert (
        f"warning: {path}:15: policies: no tool matches 'get_wether'; did you mean get_weather?"
        in done.stdout.splitlines()
    )
    assert done.stdout.endswith("settings are right, 2 warnings\n")


@pytest.mark.parametrize("command", [("check",), ("serve",), ("config", "print")])
def test_mistakes_end_with_64_and_their_lines(command: tuple[str, ...], write: Write) -> None:
    path = write("max_theads: 3\npolicies:\n  transfer: {retry: {atempts: 3}}\n")
    done = sidecall(*command, SIDECALL_CONFIG=str(path))
    assert done.returncode == 64
    assert done.stderr.splitlines() == [
        "Error: 2 mistakes:",
        f"{path}:1:1: max_theads: unknown key; did you mean max_threads?",
        f"{path}:3:22: policies.transfer.retry.atempts: unknown key; did you mean attempts?",
    ]


@pytest.mark.parametrize("command", [("check",), ("serve",), ("config", "print")])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  transfer: {lane: '{acount_id}'}", "there is no argument 'acount_id'"),
        ("  transfer: {cache_ttl: 1s}", "cache_ttl: is for tools with effects 'read_only'"),
        ("  transfer: {limits: [bank]}", "the configuration has no limit 'bank'"),
    ],
)
def test_policies_that_do_not_fit_end_with_64(
    command: tuple[str, ...], text: str, expected: str, write: Write
) -> None:
    path = write(f"tools: [{{python: bank_tools.py}}]\npolicies:\n{text}\n")
    done = sidecall(*command, "--config", path, "--listen", "unix:/nowhere/x.sock")
    assert done.returncode == 64
    assert expected in done.stderr


def test_an_address_in_the_file_is_named_by_its_line(write: Write) -> None:
    path = write("tools: [{python: bank_tools.py}]\nlisten: [nowhere]\n")
    done = sidecall("check", "--config", path)
    assert done.returncode == 64
    assert f"{path}:2: listen: " in done.stderr


def test_an_address_that_stands_twice_is_refused_before_it_is_listened_on(write: Write) -> None:
    tools = "tools: [{python: bank_tools.py}]"
    for text, told in {
        "listen: ['127.0.0.1:5', 'unix:x', '127.0.0.1:5']": "2: listen: 127.0.0.1:5 stands twice",
        "listen: [localhost:5]\nhealth_listen: [localhost:5]": (
            "3: health_listen: localhost:5 stands twice"
        ),
    }.items():
        path = write(f"{tools}\n{text}\n")
        done = sidecall("check", "--config", path)
        assert done.returncode == 64
        assert done.stderr == f"Error: {path}:{told}\n"
    path = write(f"{tools}\nlisten: ['127.0.0.1:0', '127.0.0.1:0']\n")
    assert sidecall("check", "--config", path).returncode == 0, "two free ports"


def test_print_says_where_each_value_comes_from(write: Write, folder: Path) -> None:
    path = write()
    done = sidecall("config", "print", "--config", path, "--max-queue", 9, SIDECALL_TIMEOUT="20s")
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    tools = (folder / "bank_tools.py").resolve()
    head, _, transfer = done.stdout.partition("  transfer:")
    assert "timeout: 20s  # environment variable SIDECALL_TIMEOUT" in lines
    assert f"max_threads: 20  # {path}:3" in lines
    assert "max_queue: 9  # flag --max-queue" in lines
    assert "log_level: INFO  # default" in lines
    assert f"bank: {{max_concurrency: 8, rate: 30/s}}  # {path}:7" in lines
    assert f"timeout: 5s  # declaration {tools}:5" in head
    assert f"cache_ttl: 60s  # declaration {tools}:5" in head
    assert f"max_queue: 7  # declaration {tools}:11" in transfer
    assert "timeout: 20s  # timeout of environment variable SIDECALL_TIMEOUT" in transfer
    assert "max_concurrency: 10  # default" in transfer
    assert f"rate: 10/s  # {path}:9" in transfer
    assert f'lane: "account:{{account_id}}"  # {path}:11' in transfer
    assert "breaker: false  # default" in transfer


def test_what_is_printed_is_a_configuration_file(write: Write, folder: Path) -> None:
    first = sidecall("config", "print", "--config", write())
    (folder / "printed.yaml").write_text(first.stdout)
    again = sidecall("config", "print", "--config", folder / "printed.yaml")
    assert again.returncode == 0, again.stderr

    def values(text: str) -> object:
        node, mistakes = read_yaml(text)
        assert node is not None
        assert mistakes == []
        return node.plain()

    assert values(again.stdout) == values(first.stdout)
    schema = sidecall("config", "schema")
    assert schema.returncode == 0, schema.stderr
    validator = jsonschema_rs.Draft202012Validator(json.loads(schema.stdout))
    validator.validate(values(first.stdout))


def test_secrets_are_masked(write: Write, folder: Path) -> None:
    (folder / "store.txt").write_text("sqlite:///hidden.db")
    path = write("store: {file: store.txt}\ntools: [{python: bank_tools.py}]\n")
    for command in (("check",), ("config", "print")):
        done = sidecall(*command, "--config", path)
        assert done.returncode == 0, done.stderr
        assert "hidden" not in done.stdout + done.stderr
        assert "***" in done.stdout


def test_a_file_says_what_is_served(write: Write, folder: Path) -> None:
    address = f"unix:{folder}/api.sock"
    path = write(CONFIG + f'listen: ["{address}"]\n')
    with started("serve", "--config", path) as process:
        read_until(process, "serving 2 tools")
        listed = json.loads(sidecall("tools", "--json", "--endpoint", address).stdout)["tools"]
        assert [tool["name"] for tool in listed] == ["get_weather", "transfer"]
        weather, transfer = listed
        assert (weather["effects"], weather["health"]) == ("read_only", "available")
        assert (transfer["requires_approval"], transfer["lane"]) == (True, "account:{account_id}")
        assert weather["limits"] | {"max_concurrency": 0, "max_queue": 0} == {
            "max_concurrency": 0,
            "max_queue": 0,
            "timeout_s": 5.0,
            "queue_timeout_s": 2.0,
            "rate": {"count": 10, "period_s": 1.0, "burst": 10},
            "groups": [],
            "max_attempts": 1,
            "cache_ttl_s": 60.0,
            "max_result_bytes": None,
        }
        assert transfer["limits"]["groups"] == ["threads", "bank"]
        assert transfer["limits"]["max_attempts"] == 3
        called = sidecall("call", "get_weather", '{"city": "Rome"}', "--endpoint", address)
        assert called.stdout == "sunny in Rome\n"
        process.terminate()
        assert process.wait(LONGEST_S) == 0


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_regular_files_are_read(write: Write, folder: Path, make: Callable[..., None]) -> None:
    special = folder / "special.py"
    make(special)
    link = folder / "link.py"
    link.symlink_to(special)
    fits = "is a folder" if make is os.mkdir else "is not a regular file"
    for path in (special, link):
        for config in (
            path,
            write(f"store: {{file: {path.name}}}\ntools: [{{python: bank_tools.py}}]\n"),
        ):
            done = sidecall("check", "--config", config)
            assert done.returncode == 64
            assert f"{path}: {fits}" in done.stderr
        done = sidecall("check", "--tools", path)
        assert done.returncode == 64
        assert f"{path}: {fits}" in done.stderr


def test_a_lane_without_its_argument_is_named_by_its_line(write: Write) -> None:
    path = write("tools: [{python: bank_tools.py}]\npolicies:\n  transfer:\n    lane: 'x:{nope}'\n")
    for command in ("check", "serve"):
        done = sidecall(command, "--config", path, "--listen", "unix:/nowhere/x.sock")
        assert done.returncode == 64
        assert f"{path}:4: tool 'transfer': lane: " in done.stderr
        assert "there is no argument 'nope'; there are account_id, amount" in done.stderr


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("tools:\n  - python: bank_tools.py\n  - python: missing.py\n", "3"),
        ("tools:\n  - python: missing_module\n", "2"),
        ("tools:\n  - python: broken.py\n", "2"),
        ("tools:\n  - python: bank_tools.py\n  - python: same_tools.py\n", "2, 3"),
    ],
)
def test_tools_that_cannot_be_loaded_are_named_by_their_lines(
    write: Write, folder: Path, text: str, lines: str
) -> None:
    path = write(text)
    (folder / "same_tools.py").write_text(TOOLS)
    (folder / "broken.py").write_text("1 / 0\n")
    places = ", ".join(f"{path}:{line}" for line in lines.split(", "))
    for command in ("check", "serve"):
        done = sidecall(command, "--config", path, "--listen", "unix:/nowhere/x.sock")
        assert done.returncode == 64
        assert done.stderr.endswith(f" ({places})\n")


def test_of_many_mistakes_the_first_are_told(write: Write) -> None:
    path = write("".join(f"unknown_{number}: 1\n" for number in range(3000)))
    done = sidecall("check", "--config", path)
    lines = done.stderr.splitlines()
    assert lines[0] == "Error: 3000 mistakes:"
    assert lines[50].startswith(f"{path}:50:1: unknown_49: unknown key")
    assert lines[51:] == ["and 2950 more"]
