from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall._durations import parse_duration
from sidecall._errors import CODES
from sidecall._policy import POLICY_KEYS, ToolPolicy, override, read_options
from sidecall._policy_values import rate
from sidecall_server.config.written import duration_text, policy_values, rate_value, yaml_text
from sidecall_server.config.yaml_nodes import read_yaml

_DURATIONS = st.floats(1e-6, 1e7) | st.integers(1, 10**7) | st.sampled_from(["250ms", "1m30s"])
_RATES = st.builds(
    "{}/{}{}".format,
    st.integers(1, 500),
    st.integers(1, 90),
    st.sampled_from(["ms", "s", "m", "h"]),
)
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
_NAMES = st.lists(_TEXT.filter(str.strip), unique=True, max_size=3)
_OPTIONS: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {"effects": st.just("read_only")},
    optional={
        "max_concurrency": st.none() | st.integers(1, 9),
        "timeout": st.none() | _DURATIONS,
        "cache_ttl": _DURATIONS,
        "rate": _RATES | st.fixed_dictionaries({"limit": _RATES, "burst": st.integers(1, 99)}),
        "retry": st.fixed_dictionaries(
            {},
            optional={
                "attempts": st.integers(1, 9),
                "budget": st.floats(0.01, 9),
                "backoff": _DURATIONS,
                "on": st.lists(st.sampled_from(CODES), unique=True),
            },
        ),
        "breaker": st.fixed_dictionaries(
            {}, optional={"failure_ratio": st.floats(0.01, 1), "window": _DURATIONS}
        ),
        "lane": st.fixed_dictionaries(
            {"key": _TEXT.map(lambda text: text.replace("{", "").replace("}", "")).filter(bool)},
            optional={"on_failure": st.sampled_from(["continue", "skip_rest"])},
        ),
        "limits": _NAMES,
        "context_keys": _NAMES,
        "approval": st.sampled_from(["required", "none"]),
        "large_result": st.sampled_from(["cut", "refuse"]),
        "max_result_bytes": st.integers(256, 10**6),
    },
)


@given(st.floats(1e-9, 1e9) | st.integers(1, 10**9).map(float))
def test_durations_read_as_what_they_were(seconds: float) -> None:
    assert parse_duration(duration_text(seconds)) == pytest.approx(seconds, rel=1e-9)


@pytest.mark.parametrize(
    ("seconds", "text"), [(30.0, "30s"), (0.25, "250ms"), (1.5, "1500ms"), (0.0005, "0.0005s")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize("text", ["10/s", "100/m", "5/250ms", "3/2h", "7/90m", "1/ms"])
def test_rates_are_as_people_write_them(text: str) -> None:
    assert rate_value(rate(text)) == text
    assert rate_value(rate({"limit": text, "burst": 77})) == {"limit": text, "burst": 77}


@given(_OPTIONS)
def test_a_policy_reads_as_what_it_was(options: Any) -> None:
    policy = override(ToolPolicy(), options)
    node, mistakes = read_yaml(yaml_text(policy_values(policy)))
    assert node is not None
    assert mistakes == []
    values, problems = read_options(node.plain())

    assert problems == []
    assert values.keys() == set(POLICY_KEYS)
    again = override(ToolPolicy(), node.plain())
    assert policy_values(again) == policy_values(policy)
    assert (again.limits, again.lane, again.rate) == (policy.limits, policy.lane, policy.rate)


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | _TEXT
    | st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner)))
def test_yaml_reads_as_what_it_was(value: Any) -> None:
    text = yaml_text(value)
    assert "\n" not in text
    node, mistakes = read_yaml(text)
    assert node is not None
    assert mistakes == []
    assert node.plain() == value


def test_words_that_mean_something_else_are_quoted() -> None:
    for word in ("true", "on", "No", "null", "1", "1e5", "", " x", "a: b", "<<", "#x", "é\x85"):
        node, _ = read_yaml(yaml_text({"key": word}))
        assert node is not None
        assert node.plain() == {"key": word}
    assert yaml_text(["city_tools.py", "30/s", "5s"]) == "[city_tools.py, 30/s, 5s]"
