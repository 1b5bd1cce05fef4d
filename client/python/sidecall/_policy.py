"""The limits and promises of a tool: declared by it, overridden by the configuration."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

from sidecall._errors import ToolDefinitionError
from sidecall._policy_values import (
    Breaker,
    BreakerOptions,
    Lane,
    LaneOptions,
    PolicyError,
    Problem,
    Rate,
    RateOptions,
    Reader,
    Retry,
    RetryOptions,
    breaker,
    duration,
    lane,
    names,
    one_of,
    optional,
    rate,
    read_fields,
    retry,
    whole,
)

Effects = Literal["read_only", "idempotent", "non_idempotent"]
Isolation = Literal["process"]
Approval = Literal["required", "none"]
Share = Literal["caller", "all"]
LargeResult = Literal["cut", "refuse"]

LEAST_RESULT_BYTES = 256
RESERVED_GROUPS = ("threads", "processes")
"""Names of limits that the service has of its own."""


class PolicyOptions(TypedDict, total=False):
    """Keywords of `tool` and `Tool`; the same keys stand in the configuration.

    Durations are seconds, or text such as "250ms", "5s" or "1m30s".

    Attributes:
        max_concurrency: Most calls that run at a time.
        max_queue: Most calls that may be ready and waiting.
        timeout: Time that one attempt may take.
        queue_timeout: Time that a ready call may wait.
        effects: What running the tool may change; "non_idempotent" where unset.
        isolation: "process" for code that must be killable; None for the service's own process.
        references: Whether references in the arguments are resolved.
        limits: Names of limits that it shares with other tools; the configuration has them.
        rate: How often it may start: "10/s", "100/m", "5/250ms", or a mapping with `limit`
            and `burst`; None for no bound. Without a burst, as many start at once after a
            pause as start in a second, at most the count and at least one.
        retry: How failed attempts are repeated: a number of attempts, the first one too,
            or a mapping with `attempts`, `backoff`, `max_backoff`, `budget` and `on`; None
            for not at all. What may have taken effect is repeated only where `effects`
            allows it.
        breaker: When a failing tool is left alone for a while: True, or a mapping with
            `failure_ratio`, `min_attempts`, `window`, `open` and `probes`; False or None
            for never.
        lane: Which calls run one at a time, in order: those with an equal key such as
            "account:{account_id}", or a mapping with `key` and `on_failure` ("continue" or
            "skip_rest"); None for no such order.
        coalesce: Whether a call joins an identical one in flight. For read_only tools.
        cache_ttl: Time for which a result answers identical calls; None for not at all.
            For read_only tools.
        share: Who shares results: "caller", each caller with itself, or "all". For
            read_only tools.
        context_keys: Keys of the batch's context whose values make calls differ; all of
            them where unset or None. For read_only tools.
        approval: "required" where a human decides on each call; "none" where unset.
        max_result_bytes: Bytes that one result may take, from 256; None for no bound of
            its own.
        large_result: What becomes of a larger one: "cut", which keeps its head and tail, or
            "refuse"; "cut" where unset.
    """

    max_concurrency: int | None
    max_queue: int | None
    timeout: float | str | None
    queue_timeout: float | str | None
    effects: Effects
    isolation: Isolation | None
    references: bool
    limits: Sequence[str]
    rate: str | RateOptions | None
    retry: int | RetryOptions | None
    breaker: bool | BreakerOptions | None
    lane: str | LaneOptions | None
    coalesce: bool
    cache_ttl: float | str | None
    share: Share
    context_keys: Sequence[str] | None
    approval: Approval
    max_result_bytes: int | None
    large_result: LargeResult


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """The limits and promises of a tool. None means: the default in force, or none.

    Attributes:
        max_concurrency: Most calls that run at a time.
        max_queue: Most calls that may be ready and waiting.
        timeout_s: Seconds that one attempt may take.
        queue_timeout_s: Seconds that a ready call may wait.
        effects: What running the tool may change.
        isolation: "process", or None for the service's own process.
        references: Whether references in the arguments are resolved.
        limits: Names of limits that it shares with other tools.
        rate: How often it may start.
        retry: How failed attempts are repeated.
        breaker: When it is left alone.
        lane: Which calls run one at a time.
        coalesce: Whether a call joins an identical one in flight.
        cache_ttl_s: Seconds for which a result answers identical calls.
        share: Who shares results.
        context_keys: Keys of the batch's context whose values make calls differ; None for
            all of them.
        approval: Whether a human decides on each call.
        max_result_bytes: Bytes that one result may take.
        large_result: What becomes of a larger one.
        given: The keys of PolicyOptions that were given.
    """

    max_concurrency: int | None = None
    max_queue: int | None = None
    timeout_s: float | None = None
    queue_timeout_s: float | None = None
    effects: Effects = "non_idempotent"
    isolation: Isolation | None = None
    references: bool = True
    limits: tuple[str, ...] = ()
    rate: Rate | None = None
    retry: Retry | None = None
    breaker: Breaker | None = None
    lane: Lane | None = None
    coalesce: bool = False
    cache_ttl_s: float | None = None
    share: Share = "caller"
    context_keys: tuple[str, ...] | None = None
    approval: Approval = "none"
    max_result_bytes: int | None = None
    large_result: LargeResult = "cut"
    given: frozenset[str] = frozenset()


def _group_names(value: Any) -> tuple[str, ...]:
    found = names(value)
    for name in found:
        if name in RESERVED_GROUPS:
            raise ValueError(f"{name!r} is a limit of the service itself; name one of your own")
    return found


_READERS: dict[str, Reader] = {
    "max_concurrency": optional(whole(1)),
    "max_queue": optional(whole(0)),
    "timeout": optional(duration),
    "queue_timeout": optional(duration),
    "effects": one_of(*get_args(Effects)),
    "isolation": one_of(None, *get_args(Isolation)),
    "references": one_of(True, False),
    "limits": _group_names,
    "rate": optional(rate),
    "retry": optional(retry),
    "breaker": breaker,
    "lane": lane,
    "coalesce": one_of(True, False),
    "cache_ttl": optional(duration),
    "share": one_of(*get_args(Share)),
    "context_keys": optional(names),
    "approval": one_of(*get_args(Approval)),
    "max_result_bytes": optional(whole(LEAST_RESULT_BYTES)),
    "large_result": one_of(*get_args(LargeResult)),
}
_FIELDS = {"timeout": "timeout_s", "queue_timeout": "queue_timeout_s", "cache_ttl": "cache_ttl_s"}
POLICY_KEYS = tuple(_READERS)
"""The keys of PolicyOptions."""


def field_of(key: str) -> str:
    """The field of ToolPolicy that a key of PolicyOptions sets."""
    return _FIELDS.get(key, key)


def read_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Reads what a user wrote: what each key means, and what is wrong."""
    return read_fields(options, _READERS)


def with_values(policy: ToolPolicy, values: Mapping[str, Any]) -> ToolPolicy:
    """A policy in which what was read replaces what it had, key by key."""
    return dataclasses.replace(
        policy,
        given=policy.given | values.keys(),
        **{field_of(key): value for key, value in values.items()},
    )


def contradictions(policy: ToolPolicy) -> list[Problem]:
    """What the keys of a policy must not say together."""
    if policy.effects == "read_only":
        return []
    shared = {
        "coalesce": policy.coalesce,
        "cache_ttl": policy.cache_ttl_s is not None,
        "share": policy.share != "caller",
        "context_keys": policy.context_keys is not None,
    }
    text = f"is for tools with effects 'read_only', and these are {policy.effects!r}"
    return [Problem((key,), text) for key, set_ in shared.items() if set_]


def lane_problem(policy: ToolPolicy, schema: Mapping[str, Any]) -> Problem | None:
    """A lane on an argument that no call can have would never order anything."""
    lane = policy.lane
    is_closed = schema.get("additionalProperties") is False and "patternProperties" not in schema
    if lane is None or not is_closed:
        return None
    known = list(schema.get("properties", {}))
    for argument in lane.arguments:
        if argument not in known:
            text = f"there is no argument {argument!r}; there are {', '.join(known) or 'none'}"
            return Problem(("lane",), f"{lane.template!r}: {text}")
    return None


def override(policy: ToolPolicy, options: PolicyOptions) -> ToolPolicy:
    """A policy in which some keys are replaced, nested values as a whole.

    Raises:
        PolicyError: A key is unknown, its value is not allowed, or it contradicts others.
    """
    values, problems = read_options(options)
    merged = with_values(policy, values)
    problems = problems or contradictions(merged)
    if problems:
        raise PolicyError(problems)
    return merged


def make_policy(name: str, options: PolicyOptions) -> ToolPolicy:
    """Checks the keywords of a tool.

    Raises:
        ToolDefinitionError: A keyword is unknown, or its value is not allowed.
    """
    try:
        return override(ToolPolicy(), options)
    except PolicyError as error:
        raise ToolDefinitionError(f"tool {name!r}: {error}") from None
