from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall import ToolDefinitionError, tool
from sidecall._policy import (
    POLICY_KEYS,
    PolicyOptions,
    ToolPolicy,
    field_of,
    make_policy,
    override,
    read_options,
)
from sidecall._policy_values import (
    RETRIED_CODES,
    Breaker,
    Lane,
    PolicyError,
    Rate,
    Retry,
    lane_paths,
)

_SECOND = 1_000_000_000
_UNITS = {"ms": _SECOND // 1000, "s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND}


def policy(**options: Any) -> ToolPolicy:
    return make_policy("t", options)  # type: ignore[arg-type]  # wrong ones are cases too


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        ("10/s", Rate(10, _SECOND, 10)),
        ("100/m", Rate(100, 60 * _SECOND, 1)),
        ("600/m", Rate(600, 60 * _SECOND, 10)),
        ("5/250ms", Rate(5, _SECOND // 4, 5)),
        ("3/2h", Rate(3, 7200 * _SECOND, 1)),
        (" 4 / 1m30s ", Rate(4, 90 * _SECOND, 1)),
        ("1000000/s", Rate(1_000_000, _SECOND, 1_000_000)),
        ({"limit": "10/s"}, Rate(10, _SECOND, 10)),
        ({"limit": "10/s", "burst": 20}, Rate(10, _SECOND, 20)),
        (None, None),
    ],
)
def test_rates(written: Any, rate: Rate | None) -> None:
    assert policy(rate=written).rate == rate


@given(st.integers(1, 1000), st.integers(1, 500), st.sampled_from(sorted(_UNITS)))
def test_a_rate_means_what_it_says(count: int, periods: int, unit: str) -> None:
    rate = policy(rate=f"{count}/{periods}{unit}").rate

    assert rate is not None
    assert (rate.count, rate.period_ns) == (count, periods * _UNITS[unit])
    assert 1 <= rate.burst <= count
    assert rate.burst == 1 or rate.burst * rate.period_ns <= count * _SECOND


@pytest.mark.parametrize(
    ("written", "lane"),
    [
        ("account:{account_id}", Lane("account:{account_id}")),
        ("all", Lane("all")),
        ({"key": "{user.id}", "on_failure": "skip_rest"}, Lane("{user.id}", skip_rest=True)),
        ({"key": "{a}", "on_failure": "continue"}, Lane("{a}")),
        (None, None),
    ],
)
def test_lanes(written: Any, lane: Lane | None) -> None:
    assert policy(lane=written).lane == lane


@pytest.mark.parametrize(
    ("template", "paths"),
    [
        ("", []),
        ("none", []),
        ("{a}{b.c}", [("a",), ("b", "c")]),
        ("{{a}}", []),
        ("{{{a}}}", [("a",)]),
        ("x {two words} y", [("two words",)]),
    ],
)
def test_placeholders_of_a_lane(template: str, paths: list[tuple[str, ...]]) -> None:
    assert lane_paths(template) == paths


@pytest.mark.parametrize(
    ("written", "retry"),
    [
        (1, None),
        (4, Retry(4, 0.1, 10.0, 0.2, RETRIED_CODES)),
        ({}, Retry()),
        ({"attempts": 1, "backoff": 1}, None),
        ({"backoff": "20s"}, Retry(backoff_s=20.0, max_backoff_s=20.0)),
        ({"max_backoff": "50ms"}, Retry(backoff_s=0.05, max_backoff_s=0.05)),
        ({"budget": 1, "on": ["ABORTED"]}, Retry(budget=1.0, codes=("ABORTED",))),
    ],
)
def test_retries(written: Any, retry: Retry | None) -> None:
    assert policy(retry=written).retry == retry


@pytest.mark.parametrize(
    ("written", "breaker"),
    [
        (True, Breaker()),
        ({}, Breaker()),
        (False, None),
        (None, None),
        (
            {"failure_ratio": 1, "min_attempts": 1, "window": "1m", "open": 5, "probes": 2},
            Breaker(1.0, 1, 60.0, 5.0, 2),
        ),
    ],
)
def test_breakers(written: Any, breaker: Breaker | None) -> None:
    assert policy(breaker=written).breaker == breaker


@pytest.mark.parametrize(
    ("key", "written", "message"),
    [
        ("rate", 10, 'rate: must be a rate like "10/s", "100/m" or "5/250ms", not 10'),
        ("rate", "0/s", "rate: must be from 1 start to 1000000 starts a second, not '0/s'"),
        ("rate", "1000001/s", "rate: must be from 1 start to"),
        ("rate", "1.5/s", 'rate: must be a rate like "10/s"'),
        ("rate", "5/d", "rate: must be a rate per ms, s, m, h"),
        ("rate", "5/-1s", "rate: must be a rate per"),
        ("rate", {"limit": "x", "burst": 0}, "rate.limit: must be a rate like"),
        ("rate", {"limit": "x", "burst": 0}, "rate.burst: must be an integer from 1 to 1000000"),
        ("rate", {"burst": 2}, "rate: must have a limit"),
        ("rate", {"limit": "1/s", "brust": 2}, "rate.brust: unknown keyword; known are limit"),
        ("retry", 0, "retry: must be an integer from 1 to 100, not 0"),
        ("retry", True, "retry: must be a number of attempts or a mapping, not True"),
        ("retry", "3", "retry: must be a number of attempts or a mapping, not '3'"),
        ("retry", {"attempts": 0}, "retry.attempts: must be an integer from 1 to 100, not 0"),
        ("retry", {"backoff": "soon"}, "retry.backoff: 'soon' is not a duration"),
        ("retry", {"backoff": 2, "max_backoff": 1}, "retry: must have a max_backoff of at least"),
        ("retry", {"budget": 0}, "retry.budget: must be a number above 0"),
        ("retry", {"on": ["OK"]}, "retry.on: 'OK' is not a status code; they are CANCELLED"),
        ("retry", {"on": "ABORTED"}, "retry.on: must be a list of names, not 'ABORTED'"),
        ("breaker", 1, "breaker: must be True, False or a mapping, not 1"),
        ("breaker", {"failure_ratio": 1.5}, "breaker.failure_ratio: must be a number above 0"),
        ("breaker", {"probes": 0}, "breaker.probes: must be an integer of at least 1"),
        ("lane", "", 'lane: must be text like "account:{account_id}"'),
        ("lane", "a{b", "lane: 'a{b' has a brace without its other half"),
        ("lane", "a}b", "has a brace without its other half"),
        ("lane", "{}", "has a brace without its other half"),
        ("lane", "{a..b}", "{a..b} in '{a..b}' names no argument"),
        ("lane", "{ a}", "names no argument"),
        ("lane", {"on_failure": "continue"}, "lane: must have a key"),
        ("lane", {"key": "x", "on_failure": "stop"}, "lane.on_failure: must be 'continue' or"),
        ("limits", "github", "limits: must be a list of names, not 'github'"),
        ("limits", ["a", "a"], "limits: names one thing twice: a, a"),
        ("limits", [1], "limits: must be a list of names; 1 is none"),
        ("limits", ["threads"], "limits: 'threads' is a limit of the service itself"),
        ("coalesce", 1, "coalesce: must be True or False, not 1"),
        ("cache_ttl", 0, "cache_ttl: a duration must be positive"),
        ("share", "everyone", "share: must be 'caller' or 'all', not 'everyone'"),
        ("approval", None, "approval: must be 'required' or 'none', not None"),
        ("max_result_bytes", 255, "max_result_bytes: must be an integer of at least 256"),
        ("large_result", "drop", "large_result: must be 'cut' or 'refuse', not 'drop'"),
    ],
)
def test_a_wrong_value_is_named(key: str, written: Any, message: str) -> None:
    with pytest.raises(ToolDefinitionError) as error:
        policy(**{key: written})
    assert str(error.value).startswith("tool 't': ")
    assert message in str(error.value)


def test_all_that_is_wrong_is_told() -> None:
    with pytest.raises(
        ToolDefinitionError, match=r"'t': rate: .*; retry\.attempts: .*; x: unknown"
    ):
        policy(rate="x", retry={"attempts": 0}, x=1)


@pytest.mark.parametrize(
    "options",
    [{"coalesce": True}, {"cache_ttl": 5}, {"share": "all"}, {"context_keys": ["tenant"]}],
)
@pytest.mark.parametrize("effects", ["idempotent", "non_idempotent"])
def test_results_are_shared_of_read_only_tools_alone(options: Any, effects: str) -> None:
    (key,) = options
    with pytest.raises(ToolDefinitionError, match=f"{key}: is for tools with effects 'read_only'"):
        policy(effects=effects, **options)
    assert policy(effects="read_only", **options).given == {"effects", key}


def test_the_keys_are_those_of_the_options() -> None:
    fields = set(ToolPolicy.__dataclass_fields__) - {"given"}
    assert set(POLICY_KEYS) == set(PolicyOptions.__annotations__)
    assert {field_of(key) for key in POLICY_KEYS} == fields


def test_an_override_replaces_key_by_key_and_nested_values_as_a_whole() -> None:
    base = policy(timeout="5s", retry={"attempts": 5, "backoff": "1s"}, breaker=True, rate="1/s")
    merged = override(base, {"retry": {"attempts": 2}, "breaker": False, "rate": None})

    assert merged.timeout_s == 5.0
    assert merged.retry == Retry(max_attempts=2)
    assert (merged.breaker, merged.rate) == (None, None)
    assert merged.given == {"timeout", "retry", "breaker", "rate"}
    assert base.breaker == Breaker()


def test_an_override_must_not_contradict_what_stays() -> None:
    base = policy(effects="read_only", cache_ttl="1m")
    with pytest.raises(PolicyError, match="cache_ttl: is for tools with effects 'read_only'"):
        override(base, {"effects": "idempotent"})
    merged = override(base, {"effects": "idempotent", "cache_ttl": None})
    assert (merged.effects, merged.cache_ttl_s) == ("idempotent", None)


_OPTIONS: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "max_concurrency": st.none() | st.integers(1, 9),
        "timeout": st.none() | st.sampled_from(["1s", "250ms", 3]),
        "retry": st.sampled_from([None, 1, 3, {"attempts": 4}, {"budget": 1.0}]),
        "breaker": st.sampled_from([True, False, {"probes": 3}]),
        "lane": st.sampled_from([None, "a", {"key": "{b}"}]),
        "limits": st.sampled_from([[], ["a"], ["a", "b"]]),
    },
)


@given(st.lists(_OPTIONS, max_size=4))
def test_the_last_override_of_a_key_wins(layers: list[Any]) -> None:
    merged = ToolPolicy()
    last: dict[str, Any] = {}
    for layer in layers:
        merged = override(merged, layer)
        last |= layer

    values, problems = read_options(last)
    assert not problems
    assert merged == override(ToolPolicy(), last)  # type: ignore[arg-type]  # made at random
    assert merged.given == last.keys()
    assert {key: getattr(merged, field_of(key)) for key in values} == values


def test_keywords_reach_the_tool() -> None:
    @tool(lane="{word}", rate="2/s", approval="required")
    async def look_up(word: str) -> str:
        """Looks a word up."""
        return word

    assert look_up.policy.lane == Lane("{word}")
    assert look_up.policy.approval == "required"
    assert look_up.policy.given == {"lane", "rate", "approval"}
