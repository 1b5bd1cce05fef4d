"""From a tool and the policy in force to the engine's terms."""

from typing import Any

from sidecall import _policy_values as written
from sidecall._loader import ToolLoadError
from sidecall._policy import ToolPolicy, lane_problem
from sidecall._tool import Tool
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


def tool_spec(tool: Tool[..., Any], policy: ToolPolicy, groups: tuple[str, ...] = ()) -> ToolSpec:
    """The description of a tool, with the limits in force.

    Args:
        tool: The tool.
        policy: The policy in force.
        groups: Limits of the service itself that it shares.

    Raises:
        ToolLoadError: The policy does not fit the tool's arguments.
    """
    schema = tool.input_schema
    if problem := lane_problem(policy, schema):
        raise ToolLoadError(f"tool {tool.name!r} ({tool.location}): {problem}")
    return ToolSpec(
        name=tool.name,
        description=tool.description,
        input_schema=schema,
        output_schema=tool.output_schema,
        effects=Effects[policy.effects.upper()],
        max_concurrency=policy.max_concurrency,
        max_queue=policy.max_queue,
        timeout_s=policy.timeout_s,
        queue_timeout_s=policy.queue_timeout_s,
        references=policy.references,
        groups=(*groups, *policy.limits),
        rate=_rate(policy.rate),
        retry=_retry(policy.retry),
        breaker=_breaker(policy.breaker),
        lane=Lane(policy.lane.template, policy.lane.skip_rest) if policy.lane else None,
        sharing=_sharing(policy),
        requires_approval=policy.approval == "required",
        max_result_bytes=policy.max_result_bytes,
        large_result=LargeResult(policy.large_result),
    )


def _rate(rate: written.Rate | None) -> Rate | None:
    if rate is None:
        return None
    return Rate(rate.count, rate.period_ns, rate.burst)


def _retry(retry: written.Retry | None) -> Retry | None:
    if retry is None:
        return None
    return Retry(
        retry.max_attempts,
        retry.backoff_s,
        retry.max_backoff_s,
        retry.budget,
        frozenset(Code[name] for name in retry.codes),
    )


def _breaker(breaker: written.Breaker | None) -> Breaker | None:
    if breaker is None:
        return None
    return Breaker(
        breaker.failure_ratio,
        breaker.min_attempts,
        breaker.window_s,
        breaker.open_s,
        breaker.probes,
    )


def _sharing(policy: ToolPolicy) -> Sharing | None:
    if not policy.coalesce and policy.cache_ttl_s is None:
        return None
    return Sharing(policy.coalesce, policy.cache_ttl_s, policy.share == "all", policy.context_keys)
