from typing import Any

import pytest

from sidecall import Tool, tool
from sidecall._loader import ToolLoadError
from sidecall_server.backends.tool_specs import tool_spec
from sidecall_server.core.outcome import Code
from sidecall_server.core.tool import (
    Breaker,
    Effects,
    Lane,
    LargeResult,
    Rate,
    Retry,
    Sharing,
    ToolSpec,
)


async def look_up(word: str, user: dict[str, str] | None = None) -> str:
    """Looks a word up."""
    return word


def spec_of(**policy: Any) -> ToolSpec:
    made = tool(look_up, **policy)
    return tool_spec(made, made.policy, ("threads",))


def test_what_is_not_declared_is_not_there() -> None:
    spec = spec_of()
    assert (spec.effects, spec.groups) == (Effects.NON_IDEMPOTENT, ("threads",))
    assert (spec.rate, spec.retry, spec.breaker, spec.lane, spec.sharing) == (None,) * 5
    assert (spec.requires_approval, spec.max_result_bytes) == (False, None)
    assert spec.large_result is LargeResult.CUT


def test_each_policy_reaches_the_engine() -> None:
    spec = spec_of(
        effects="read_only",
        limits=["github", "slow"],
        rate={"limit": "10/s", "burst": 3},
        retry={"attempts": 5, "on": ["ABORTED", "UNAVAILABLE"]},
        breaker={"failure_ratio": 0.9, "window": "1m"},
        lane={"key": "{user.id}", "on_failure": "skip_rest"},
        coalesce=True,
        cache_ttl="1m",
        share="all",
        context_keys=["tenant"],
        approval="required",
        max_result_bytes=300,
        large_result="refuse",
    )
    assert spec.groups == ("threads", "github", "slow")
    assert spec.rate == Rate(10, 1_000_000_000, 3)
    assert spec.retry == Retry(5, 0.1, 10.0, 0.2, frozenset({Code.ABORTED, Code.UNAVAILABLE}))
    assert spec.breaker == Breaker(0.9, 10, 60.0, 30.0, 1)
    assert spec.lane == Lane("{user.id}", skip_rest=True)
    assert spec.sharing == Sharing(
        coalesce=True, cache_ttl_s=60.0, all_callers=True, context_keys=("tenant",)
    )
    assert spec.requires_approval
    assert (spec.max_result_bytes, spec.large_result) == (300, LargeResult.REFUSE)


def test_a_cache_alone_coalesces_nothing() -> None:
    sharing = spec_of(effects="read_only", cache_ttl=5).sharing
    assert sharing == Sharing(coalesce=False, cache_ttl_s=5.0, all_callers=False, context_keys=None)


def test_a_lane_on_an_argument_that_is_not_there_is_refused() -> None:
    with pytest.raises(ToolLoadError, match="no argument 'wrod'; there are word, user"):
        spec_of(lane="{word}:{wrod}")


@pytest.mark.parametrize("more", [{}, {"additionalProperties": True}])
def test_where_arguments_are_open_a_lane_may_name_any(more: dict[str, Any]) -> None:
    made: Tool[..., Any] = Tool(
        name="t", description="", input_schema={"type": "object", **more}, call=dict, lane="{x}"
    )
    assert tool_spec(made, made.policy).lane == Lane("{x}")
