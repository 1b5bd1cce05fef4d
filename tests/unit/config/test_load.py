from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from sidecall_server.config import ConfigError, load
from sidecall_server.config.values import duration_s

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a configuration file and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "sidecall.yaml"
        path.write_text(text)
        return str(path)

    return write


_SOURCES = st.fixed_dictionaries(
    {},
    optional={
        "flag": st.integers(1, 9),
        "environment variable": st.integers(11, 19),
        "file": st.integers(21, 29),
    },
)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_by=_SOURCES)
def test_flag_before_environment_before_file_before_default(
    given_by: dict[str, int], write: Write
) -> None:
    environ = {"SIDECALL_CONFIG": write(f"max_threads: {given_by.get('file', 77)}")}
    if "environment variable" in given_by:
        environ["SIDECALL_MAX_THREADS"] = str(given_by["environment variable"])
    settings = load({"max_threads": given_by.get("flag")}, environ)

    order = ("flag", "environment variable", "file")
    kind = next((source for source in order if source in given_by), "file")
    assert settings.limits.max_threads == given_by.get(kind, 77)
    assert settings.origin("max_threads").kind == kind
    assert settings.origin("max_queue").kind == "default"


def test_the_flag_names_the_file_before_the_variable(write: Write) -> None:
    environ = {"SIDECALL_CONFIG": "/nowhere/to/be/found.yaml"}
    assert load({"config": write("max_queue: 5")}, environ).limits.max_queue == 5
    with pytest.raises(ConfigError, match=r"/nowhere/to/be/found\.yaml: No such file"):
        load({}, environ)


def test_tools_of_flags_replace_those_of_the_file(write: Write) -> None:
    path = write("tools: [{python: a.py}, {python: b}]")
    assert len(load({"config": path}, {}).tools) == 2
    assert load({"config": path, "tools": ("c.py",)}, {}).tools == ("c.py",)
    assert load({"config": path}, {"SIDECALL_TOOLS": "d.py,e"}).tools == ("d.py", "e")


def test_a_wrong_value_in_the_file_is_wrong_where_a_flag_wins_too(write: Write) -> None:
    with pytest.raises(ConfigError, match="max_threads: must be at least 1"):
        load({"config": write("max_threads: 0"), "max_threads": 5}, {})


def test_names_of_settings_in_messages(write: Write) -> None:
    path = write("max_queue: 5\nmax_concurrency: 4\n")
    settings = load({"config": path, "max_threads": "3"}, {"SIDECALL_TIMEOUT": "3s"})
    assert settings.where("max_queue") == f"{path}:1: max_queue"
    assert settings.where("max_threads") == "--max-threads"
    assert settings.where("timeout_s") == "SIDECALL_TIMEOUT"
    assert settings.where("queue_timeout_s") == "--queue-timeout"


def test_a_batch_limit_above_the_sidecars_is_refused_where_it_stands(write: Write) -> None:
    path = write("max_concurrency: 4\nmax_batch_concurrency: 5\n")
    with pytest.raises(ConfigError) as error:
        load({"config": path}, {})
    assert str(error.value) == (
        f"{path}:2: max_batch_concurrency: 5 is more than {path}:1: max_concurrency, 4"
    )
    assert load({"config": write("max_concurrency: 4")}, {}).limits.max_batch_concurrency == 4


def test_no_address_at_all_is_refused_where_it_stands(write: Write) -> None:
    path = write("\nlisten: []")
    with pytest.raises(ConfigError, match=r"sidecall\.yaml:2: listen: at least one address"):
        load({"config": path}, {})


def test_the_drain_comes_from_the_pod_unless_the_file_says_it(write: Write) -> None:
    environ = {"TERMINATION_GRACE_PERIOD_SECONDS": "60"}
    assert str(load({}, environ).origin("drain_timeout_s")) == (
        "environment variable TERMINATION_GRACE_PERIOD_SECONDS"
    )
    assert load({"config": write("drain_timeout: 7s")}, environ).drain_timeout_s == 7.0


@given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["ms", "s", "m"])), min_size=1))
def test_durations_add_up(parts: list[tuple[int, str]]) -> None:
    unit_s = {"ms": 0.001, "s": 1.0, "m": 60.0}
    text = "".join(f"{count}{unit}" for count, unit in parts)
    assert duration_s("x", text) == pytest.approx(sum(n * unit_s[unit] for n, unit in parts))
