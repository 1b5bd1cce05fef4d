from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall import Tool, tool
from sidecall._policy import field_of, read_options
from sidecall_server.config import ConfigError, PolicyEntry, PolicyTable, load

FromText = Callable[[str], PolicyTable]


@pytest.fixture
def table(tmp_path: Path) -> FromText:
    """The policies of the text of a file."""

    def table(text: str) -> PolicyTable:
        path = tmp_path / "sidecall.yaml"
        path.write_text(text)
        return load({"config": str(path)}, {}).policies

    return table


def made(name: str, **policy: Any) -> Tool[..., Any]:
    async def function() -> None:
        """Does nothing."""

    return tool(function, name=name, **policy)


def test_patterns_come_first_then_the_name(table: FromText) -> None:
    policies = table(
        """
        policies:
          get_weather: {timeout: 1s}
          "get_*": {timeout: 2s, max_concurrency: 2, max_queue: 2}
          "*": {max_concurrency: 3, rate: 1/s}
        """
    )
    policy = policies.apply(made("get_weather", timeout=9, max_queue=9, queue_timeout=9))
    assert (policy.timeout_s, policy.max_concurrency, policy.max_queue) == (1.0, 3, 2)
    assert policy.queue_timeout_s == 9.0
    assert policy.rate is not None
    assert policy.given == {
        "timeout",
        "max_concurrency",
        "max_queue",
        "rate",
        "queue_timeout",
    }
    assert policies.apply(made("send")).max_queue is None


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("get_*", ["get_", "get_x"], ["Get_x", "forget_x"]),
        ("get_?", ["get_x"], ["get_", "get_xy"]),
        ("[gs]et", ["get", "set", "[gs]et"], ["let"]),
        ("get", ["get"], ["get_x"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_patterns(pattern: str, matching: list[str], others: list[str]) -> None:
    entry = PolicyEntry(pattern, {})
    assert all(map(entry.matches, matching))
    assert not any(map(entry.matches, others))


def test_places_of_what_is_in_force(table: FromText) -> None:
    policies = table('policies:\n  "*":\n    timeout: 1s\n    rate: 1/s\n  a: {timeout: 2s}\n')
    places = policies.places(made("a", max_queue=3))
    assert {key: place.rpartition(":")[2] for key, place in places.items()} == {
        "timeout": "5",
        "rate": "4",
    }


def test_what_is_inherited_can_be_switched_off(table: FromText) -> None:
    policies = table("policies: {a: {breaker: false, lane: null, retry: 1, isolation: null}}")
    policy = policies.apply(made("a", breaker=True, lane="x", retry=5, isolation="process"))
    assert (policy.breaker, policy.lane, policy.retry, policy.isolation) == (None,) * 4


def test_contradictions_are_told_with_place_and_tool(table: FromText) -> None:
    policies = table("policies:\n  a:\n    cache_ttl: 5s\n    share: all\n")
    with pytest.raises(ConfigError) as error:
        policies.apply(made("a"))
    cache, share = error.value.mistakes
    assert cache.endswith("sidecall.yaml:3: tool 'a': cache_ttl: is for tools with effects "
                          "'read_only', and these are 'non_idempotent'")  # fmt: skip
    assert ":4: tool 'a': share: is for" in share
    assert policies.apply(made("a", effects="read_only")).cache_ttl_s == 5.0

    declared = made("b", effects="read_only", coalesce=True)
    with pytest.raises(ConfigError, match=r"test_policies\.py:\d+: tool 'b': coalesce: is for"):
        table("policies: {b: {effects: idempotent}}").apply(declared)


def test_a_declared_limit_must_be_configured(table: FromText) -> None:
    calls_github = made("a", limits=["github"])
    with pytest.raises(ConfigError, match="has no limit 'github'; there are none"):
        PolicyTable().apply(calls_github)
    with pytest.raises(ConfigError, match="has no limit 'github'; did you mean gitub"):
        table("limits: {gitub: {rate: 1/s}}").apply(calls_github)
    assert table("limits: {github: {rate: 1/s}}").apply(calls_github).limits == ("github",)


def test_entries_without_a_tool_are_warned_of(table: FromText) -> None:
    policies = table('policies:\n  get_wether: {}\n  "set_*": {}\n  "g*": {}\n')
    wether, set_ = policies.warnings(["get_weather", "send"])
    assert wether.endswith(
        "sidecall.yaml:2: policies: no tool matches 'get_wether'; did you mean get_weather?"
    )
    assert set_.endswith("sidecall.yaml:3: policies: no tool matches 'set_*'")


_PATTERNS = st.sampled_from(["get_a", "get_*", "*", "?et_a", "other", "set_*"])
_OPTIONS: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "max_concurrency": st.none() | st.integers(1, 9),
        "timeout": st.sampled_from([None, "1s", 2]),
        "retry": st.sampled_from([None, 1, 2, {"budget": 1.0}]),
        "lane": st.sampled_from([None, "a"]),
    },
)


@given(st.dictionaries(_PATTERNS, _OPTIONS), _OPTIONS)
def test_entry_before_entry_before_declaration(entries: dict[str, Any], declared: Any) -> None:
    policies = PolicyTable(
        tuple(PolicyEntry(name, read_options(options)[0]) for name, options in entries.items())
    )
    policy = policies.apply(made("get_a", **declared))

    layers = [declared]
    layers += [entries[name] for name in entries if name in ("get_*", "*", "?et_a")]
    layers += [entries["get_a"]] if "get_a" in entries else []
    expected = {key: value for layer in layers for key, value in read_options(layer)[0].items()}
    assert {key: getattr(policy, field_of(key)) for key in expected} == expected
    assert policy.given == expected.keys()
