from collections.abc import Callable
from pathlib import Path

import pytest

from sidecall_server.config import ConfigError, Settings, load
from sidecall_server.core.tool import Group, Rate

Read = Callable[..., Settings]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Loads settings from the text of a file."""

    def read(text: str, **environ: str) -> Settings:
        (tmp_path / "sidecall.yaml").write_text(text, encoding="utf-8")
        return load({"config": str(tmp_path / "sidecall.yaml")}, environ)

    return read


@pytest.fixture
def mistakes(read: Read, tmp_path: Path) -> Callable[..., list[str]]:
    """What is wrong with the text of a file, without the folder."""

    def mistakes(text: str, **environ: str) -> list[str]:
        with pytest.raises(ConfigError) as error:
            read(text, **environ)
        return [line.removeprefix(f"{tmp_path}/") for line in error.value.mistakes]

    return mistakes


def test_settings(read: Read, tmp_path: Path) -> None:
    settings = read(
        """
        listen: ["127.0.0.1:0", "unix:/run/api.sock", "unix:api.sock", "unix://sub/api.sock"]
        health_listen: []
        timeout: 1m30s
        queue_timeout: 0.5
        drain_timeout: 0
        max_threads: 64
        log_level: debug
        store: sqlite:///state/calls.db
        request_retention: 10m
        tools:
          - python: city_tools.py
          - python: sub/more.py
          - python: package.module
          - python: /opt/tools.py
          - python: ~/mine.py
        """
    )
    assert settings.listen == (
        "127.0.0.1:0",
        "unix:/run/api.sock",
        f"unix:{tmp_path}/api.sock",
        f"unix:{tmp_path}/sub/api.sock",
    )
    assert (settings.health_listen, settings.log_level) == ((), "DEBUG")
    assert (settings.limits.timeout_s, settings.limits.queue_timeout_s) == (90.0, 0.5)
    assert (settings.drain_timeout_s, settings.limits.max_threads) == (0.0, 64)
    assert settings.limits.request_retention_s == 600.0
    assert settings.store == f"sqlite:///{tmp_path}/state/calls.db"
    assert settings.tools == (
        f"{tmp_path}/city_tools.py",
        f"{tmp_path}/sub/more.py",
        "package.module",
        "/opt/tools.py",
        "~/mine.py",
    )
    assert settings.files == (tmp_path / "sidecall.yaml",)
    assert settings.limits.max_queue == Settings().limits.max_queue


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "policies: {}\nlimits: {}\n"])
def test_a_file_without_settings_leaves_the_defaults(read: Read, text: str) -> None:
    settings = read(text)
    assert settings.limits == Settings().limits
    assert settings.groups == {}
    assert settings.policies.entries == ()


def test_an_absolute_store_stays_where_it_is(read: Read) -> None:
    assert read("store: sqlite:////var/x.db").store == "sqlite:////var/x.db"
    assert read("store: memory").store == "memory"


def test_limits_that_tools_share(read: Read) -> None:
    settings = read("limits:\n  a: {max_concurrency: 8, rate: 30/s}\n  b: {rate: {limit: 1/m}}\n")
    assert settings.groups == {
        "a": Group(8, Rate(30, 1_000_000_000, 30)),
        "b": Group(None, Rate(1, 60_000_000_000, 1)),
    }
    assert settings.policies.groups == ("a", "b")
    assert settings.origin("limits.b").name.endswith("sidecall.yaml:3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_theads: 3", "1:1: max_theads: unknown key; did you mean max_threads?"),
        ("zzz: 3", "1:1: zzz: unknown key"),
        ("config: x.yaml", "1:1: config: unknown key"),
        ("[1]", "1:1: must be a mapping of settings, not a list"),
        (
            '\n\ntimeout: "5"',
            "3:10: timeout: must be a duration: seconds, or text like 5s, not '5'",
        ),
        ("timeout: soon", "1:10: timeout: 'soon' is not a duration"),
        ("timeout: 0", "1:10: timeout: must be more than 0"),
        ("timeout: .nan", "1:10: timeout: must be between 0 and a year"),
        ("timeout: true", "1:10: timeout: must be a duration"),
        ("timeout:", "1:9: timeout: must be a duration: seconds, or text like 5s, not nothing"),
        ("timeout: {env: X}", "1:10: timeout: must be a duration"),
        ("max_threads: 3.0", "1:14: max_threads: must be a whole number, not 3.0"),
        ("max_threads: '3'", "1:14: max_threads: must be a whole number, not '3'"),
        ("max_threads: yes", "1:14: max_threads: must be a whole number, not 'yes'"),
        ("max_threads: 0", "1:14: max_threads: must be at least 1"),
        ("max_threads: 99999", "1:14: max_threads: must be at most 65536"),
        ("listen: 127.0.0.1:1", "1:9: listen: must be a list of addresses, not '127.0.0.1:1'"),
        ("listen: [a:1, 1]", "1:15: listen[1]: must be an address, not 1"),
        ("listen: {a: 1}", "1:9: listen: must be a list of addresses, not a mapping"),
        ("log_level: loud", "1:12: log_level: 'loud' is none of DEBUG"),
        ("log_level: 3", "1:12: log_level: must be text, not 3"),
        ("store: redis", "1:8: store: 'redis' is not a store: memory, sqlite:///relative.db"),
        ("store: 'sqlite:///:memory:'", "1:8: store: 'sqlite:///:memory:' is not a store"),
        ("store: {file: a, env: b}", "1:8: store: must be a value, {file: path} or {env: NAME}"),
        ("store: {evn: b}", "1:8: store: must be a value, {file: path} or {env: NAME}"),
        ("store: {env: NOWHERE}", "1:8: store: the variable NOWHERE is not set"),
        ("tools: a.py", "1:8: tools: must be a list, not 'a.py'"),
        ("tools: [a.py]", "1:9: tools[0]: must have exactly one kind, as in `python: tools.py`"),
        ("tools: [{}]", "1:9: tools[0]: must have exactly one kind"),
        ("tools: [{python: a.py, mcp: {}}]", "1:9: tools[0]: must have exactly one kind"),
        ("tools: [{python: 3}]", "1:18: tools[0].python: must be a file or a module, not 3"),
        ("tools: [{host: a}]", "1:16: tools[0].host: must have the name of an application"),
        ("tools: [{host: {name: a}}]", "1:16: tools[0].host: must have a list of tools"),
        (
            "tools: [{host: {name: a, tools: [b, 1]}}]",
            "1:37: tools[0].host.tools[1]: must be a tool's name, not 1",
        ),
        ("tools: [{host: {name: a, tools: [b c]}}]", "1:34: tools[0].host.tools[0]: 'b c' is not"),
        (
            "tools: [{host: {name: a, tools: [b]}}, {host: {name: c, tools: [b]}}]",
            "1:65: tools[1].host.tools[0]: 'b' stands twice",
        ),
        ("tools: [{host: {name: a, tool: [b]}}]", "1:26: tools.host.tool: unknown key; did you"),
        ("tools: [{pyhton: a.py}]", "1:10: tools[0].pyhton: unknown kind; did you mean python?"),
        (
            "tools: [{openapi: {}}]",
            "1:10: tools[0].openapi: this version has no tools of this kind",
        ),
        ("tools: [{http: {}}]", "1:10: tools[0].http: this version has no"),
        ("tools: [{mcp: {}}]", "1:10: tools[0].mcp: this version has no"),
        ("tools: [{command: {}}]", "1:10: tools[0].command: this version has no"),
        ("limits: 3", "1:9: limits: must be a mapping, not 3"),
        ("limits: {a: 3}", "1:13: limits.a: must be a mapping, not 3"),
        ("limits: {a: {}}", "1:10: limits.a: must have max_concurrency, rate or both"),
        ("limits: {processes: {rate: 1/s}}", "1:10: limits.processes: the sidecar has a limit"),
        ("limits: {a: {rate: 1/x}}", "1:20: limits.a.rate: must be a rate per ms, s, m, h"),
        (
            f"limits: {{a: {{rate: 1/1{'0' * 300}h}}}}",
            "1:20: limits.a.rate: must be a rate per ms, s, m, h or a multiple of them",
        ),
        ("limits: {a: {max_concurrency: 0}}", "1:31: limits.a.max_concurrency: must be an integer"),
        ("limits: {a: {raet: 1/s}}", "1:14: limits.a.raet: unknown key; did you mean rate?"),
        ("policies: []", "1:11: policies: must be a mapping, not a list"),
        ("policies: {a: }", "1:14: policies.a: must be a mapping, not nothing"),
        ("policies: {a: {lnae: x}}", "1:16: policies.a.lnae: unknown key; did you mean lane?"),
        ("policies: {a: {timeout: 1e307}}", "1:25: policies.a.timeout: must be from a nanosecond"),
        ("policies: {a: {timeout: 1e-10}}", "1:25: policies.a.timeout: must be from a nanosecond"),
        (
            "policies: {a: {retry: {backoff: 9000h}}}",
            "1:33: policies.a.retry.backoff: must be from a nanosecond to a year (31536000s)",
        ),
        ("policies: {a: {effects: x}}", "1:25: policies.a.effects: must be 'read_only' or"),
        (
            "policies:\n  a:\n    retry:\n      attempts: 0",
            "4:17: policies.a.retry.attempts: must be an integer from 1 to 100, not 0",
        ),
        (
            "policies: {a: {breaker: {opne: 1s}}}",
            "1:26: policies.a.breaker.opne: unknown key; did you mean open?",
        ),
        (
            "limits: {github: {rate: 1/s}}\npolicies: {a: {limits: [gihub]}}",
            "2:25: policies.a.limits: the configuration has no limit 'gihub'; did you mean github?",
        ),
        ("a: [", "1:5: while parsing"),
    ],
)
def test_a_mistake_is_told_with_its_place(
    mistakes: Callable[..., list[str]], text: str, expected: str
) -> None:
    (told,) = mistakes(text)
    assert told.startswith(f"sidecall.yaml:{expected}")


def test_a_mistake_is_one_short_line_whatever_stands_there(
    mistakes: Callable[..., list[str]],
) -> None:
    for text in (
        f"max_threads: {'x' * 100_000}",
        f"policies: {{a: {{effects: {'x' * 100_000}}}}}",
        f"policies: {{a: {{retry: {{attempts: {'9' * 1000}}}}}}}",
        f"{'x' * 100_000}: 1",
        f"tools: [{{python: [], {'x' * 100_000}: 1}}]",
    ):
        (told,) = mistakes(text)
        assert len(told) < 500, text[:30]
    assert mistakes('"max\\nthreads\\e[2J": 1') == [
        "sidecall.yaml:1:1: max\\nthreads\\x1b[2J: unknown key; did you mean max_threads?"
    ]


def test_all_mistakes_are_told_in_the_order_of_the_file(mistakes: Callable[..., list[str]]) -> None:
    told = mistakes(
        "policies:\n  a: {retry: {attempts: 0, atempts: 1}, rate: x}\nmax_threads: x\nlanes: 1\n"
        "tools: [{mcp: 1}, {http: 2}]\nmax_threads: 3\n"
    )
    places = [line.split(":")[1] for line in told]
    assert places == ["2", "2", "2", "3", "4", "5", "5", "6"]


def test_what_two_entries_share_is_told_once(mistakes: Callable[..., list[str]]) -> None:
    told = mistakes("policies:\n  a: &x\n    rate: often\n  b: *x\n")
    assert [line.split(" ")[1] for line in told] == ["policies.a.rate:", "policies.b.rate:"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    (tmp_path / "large.yaml").write_bytes(b"#" * (1024 * 1024 + 1))
    for name, expected in {
        "none.yaml": "none.yaml: No such file or directory",
        "": f"{tmp_path}: is a folder, not a file",
        "latin.yaml": "latin.yaml:2:4: is not UTF-8",
        "large.yaml": "large.yaml: larger than 1048576 bytes",
    }.items():
        with pytest.raises(ConfigError, match=expected):
            load({"config": str(tmp_path / name)}, {})


def test_secrets_stand_in_files_and_variables(read: Read, tmp_path: Path) -> None:
    (tmp_path / "store.txt").write_text("sqlite:///secret.db\n")
    settings = read("store: {file: store.txt}")
    assert settings.store == f"sqlite:///{tmp_path}/secret.db"
    assert settings.origin("store").secret
    assert settings.files == (tmp_path / "sidecall.yaml", tmp_path / "store.txt")

    settings = read("store: {env: STORE}", STORE="memory")
    assert settings.store == "memory"
    assert settings.origin("store").secret


def test_messages_show_no_secret(mistakes: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "store.txt").write_text("redis://user:hunter2@host/0")
    for text in (
        "store: {file: store.txt}",
        "store: {env: STORE}",
        "store: redis://user:hunter2@host/0",
        "store: redis://user:hun/ter2@host/0",
    ):
        (told,) = mistakes(text, STORE="redis://user:hunter2@host/0")
        assert "is not a store" in told
        assert "ter2" not in told


def test_a_secret_file_that_is_missing_is_named(mistakes: Callable[..., list[str]]) -> None:
    (told,) = mistakes("store: {file: gone.txt}")
    assert told.startswith("sidecall.yaml:1:8: store: ")
    assert told.endswith("gone.txt: No such file or directory")
