"""Values as a configuration file has them: the way back from what they mean."""

import json
import re
from collections.abc import Mapping
from typing import Any

from sidecall._policy import POLICY_KEYS, ToolPolicy, field_of
from sidecall._policy_values import Breaker, Lane, Rate, Retry, rate
from sidecall_server.core import tool as core

_MS = 1_000_000
_UNITS_NS = (("h", 3_600_000 * _MS), ("m", 60_000 * _MS), ("s", 1_000 * _MS), ("ms", _MS))
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*|[0-9.]+(ms|s|m|h)|[0-9]+/[0-9.]*(ms|s|m|h)")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_NOT_PRINTABLE = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def duration_text(seconds: float) -> str:
    """Seconds as a duration that reads as the same seconds."""
    if seconds == int(seconds):
        return f"{int(seconds)}s"
    ms = round(seconds * 1000)
    if ms / 1000 == seconds:
        return f"{ms}ms"
    text = repr(seconds)
    return f"{seconds:.20f}s" if "e" in text else f"{text}s"


def rate_value(of: Rate | core.Rate) -> str | dict[str, Any]:
    """A rate as text, or as a mapping where its burst is one of its own."""
    text = f"{of.count}/{_period(of.period_ns)}"
    default = rate(text)
    return text if default.burst == of.burst else {"limit": text, "burst": of.burst}


def policy_values(policy: ToolPolicy) -> dict[str, Any]:
    """All keys of a policy, with what a file would have for them."""
    values = {key: getattr(policy, field_of(key)) for key in POLICY_KEYS}
    for key in ("timeout", "queue_timeout", "cache_ttl"):
        if values[key] is not None:
            values[key] = duration_text(values[key])
    values["limits"] = list(policy.limits)
    values["context_keys"] = None if policy.context_keys is None else list(policy.context_keys)
    values["rate"] = policy.rate and rate_value(policy.rate)
    values["retry"] = policy.retry and _retry(policy.retry)
    values["breaker"] = _breaker(policy.breaker) if policy.breaker else False
    values["lane"] = policy.lane and _lane(policy.lane)
    return values


def yaml_text(value: Any) -> str:
    """A value in YAML, in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{yaml_text(key)}: {yaml_text(value[key])}" for key in value) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(yaml_text, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return _NOT_PRINTABLE.sub(
        lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False)
    )


def _period(period_ns: int) -> str:
    unit, unit_ns = next(((unit, ns) for unit, ns in _UNITS_NS if period_ns % ns == 0), ("ms", _MS))
    if period_ns == unit_ns:
        return unit
    count = period_ns // unit_ns if period_ns % unit_ns == 0 else f"{period_ns / unit_ns:.6f}"
    return f"{count}{unit}"


def _retry(retry: Retry) -> dict[str, Any]:
    return {
        "attempts": retry.max_attempts,
        "backoff": duration_text(retry.backoff_s),
        "max_backoff": duration_text(retry.max_backoff_s),
        "budget": retry.budget,
        "on": list(retry.codes),
    }


def _breaker(breaker: Breaker) -> dict[str, Any]:
    return {
        "failure_ratio": breaker.failure_ratio,
        "min_attempts": breaker.min_attempts,
        "window": duration_text(breaker.window_s),
        "open": duration_text(breaker.open_s),
        "probes": breaker.probes,
    }


def _lane(lane: Lane) -> str | dict[str, Any]:
    return {"key": lane.template, "on_failure": "skip_rest"} if lane.skip_rest else lane.template
