"""The JSON Schema (2020-12) of the configuration file."""

import re
from collections.abc import Mapping
from typing import Any

import docstring_parser

from sidecall._durations import MAX_DURATION_S
from sidecall._errors import CODES
from sidecall._policy import LEAST_RESULT_BYTES, RESERVED_GROUPS, PolicyOptions
from sidecall._policy_values import (
    MAX_ATTEMPTS,
    MAX_COUNT,
    MAX_RATE_PER_S,
    BreakerOptions,
    LaneOptions,
    RateOptions,
    RetryOptions,
)
from sidecall_server.config.file import SECRET_SETTINGS, file_settings
from sidecall_server.config.settings import Settings
from sidecall_server.config.store_url import PATTERN as STORE_PATTERN
from sidecall_server.config.values import LOG_LEVELS, bounds, may_be_zero
from sidecall_server.core.defaults import Limits
from sidecall_server.core.tool import Group

Schema = dict[str, Any]

_NUMBER = r"[0-9]+(\.[0-9]+)?"
_DURATION = rf"^\s*({_NUMBER}(ms|s|m|h))+\s*$"
_RATE = rf"^\s*[0-9]{{1,12}}\s*/\s*(ms|s|m|h|({_NUMBER}(ms|s|m|h))+)\s*$"
_FIELD = r"[^{}\s.]([^{}.]*[^{}\s.])?"
_LANE = rf"^(\{{\{{|\}}\}}|\{{{_FIELD}(\.{_FIELD})*\}}|[^{{}}])+$"


def config_schema() -> Schema:
    """The schema of the whole file."""
    described = descriptions(Limits) | descriptions(Settings)
    properties: dict[str, Schema] = {
        key: {"description": described[name], **_setting(name, default)}
        for key, (name, default) in file_settings().items()
    }
    properties["tools"] = {
        "description": "The tools that are served. Files are relative to the folder of this "
        "file. Tools that a flag or a variable names replace them.",
        "type": "array",
        "items": {"oneOf": [_python_tools(), _hosted_tools()]},
    }
    properties["limits"] = {
        "description": "Limits that several tools share, by name.",
        "type": "object",
        "propertyNames": {"pattern": r"\S", "not": {"enum": list(RESERVED_GROUPS)}},
        "additionalProperties": {
            **_described(Group, {"max_concurrency": _whole(1), "rate": _ref("rate")}),
            "minProperties": 1,
        },
    }
    properties["policies"] = {
        "description": "Limits and promises of tools, by name or by pattern (*, ?, [...]). "
        "Patterns apply in their order, then the name; each replaces what stands before it, "
        "and what the tool declares, key by key.",
        "type": "object",
        "additionalProperties": _ref("policy"),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of a sidecar (sidecall.yaml)",
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": False,
        "$defs": _definitions(),
    }


def _python_tools() -> Schema:
    text = {
        "description": "A Python file or module: every function marked @tool.",
        "type": "string",
        "pattern": r"\S",
    }
    return _object({"python": text}, required=["python"])


def _hosted_tools() -> Schema:
    fields = {
        "name": {
            "description": "Name of the application.",
            "type": "string",
            "pattern": r"\S",
        },
        "tools": {"description": "Names of tools.", **_ref("names"), "minItems": 1},
    }
    host = {
        "description": "Tools that an application offers when it attaches: they are known, and "
        "UNAVAILABLE, before that.",
        **_object(fields, required=["name", "tools"]),
    }
    return _object({"host": host}, required=["host"])


def descriptions(documented: type) -> dict[str, str]:
    """What the docstring of a class says about its attributes."""
    parsed = docstring_parser.parse(documented.__doc__ or "")
    return {item.arg_name: " ".join((item.description or "").split()) for item in parsed.params}


def _definitions() -> dict[str, Schema]:
    rate = {"type": "string", "pattern": _RATE, "examples": ["10/s", "100/m", "5/250ms"]}
    return {
        "duration": {
            "description": 'Seconds, or text such as "250ms", "5s" or "1m30s".',
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_DURATION_S},
                {"type": "string", "pattern": _DURATION},
            ],
        },
        "rate": {
            "anyOf": [
                rate,
                _described(
                    RateOptions, {"limit": rate, "burst": _whole(1, MAX_RATE_PER_S)}, ["limit"]
                ),
            ]
        },
        "names": {
            "type": "array",
            "items": {"type": "string", "pattern": r"\S"},
            "uniqueItems": True,
        },
        "lane": {
            "type": "string",
            "pattern": _LANE,
            "examples": ["account:{account_id}"],
        },
        "secret": {
            "description": "A value that stands in a file or a variable of its own.",
            "anyOf": [
                _object({key: {"type": "string", "minLength": 1}}, required=[key])
                for key in ("file", "env")
            ],
        },
        "policy": _described(PolicyOptions, _policy_keys()),
    }


def _policy_keys() -> dict[str, Schema]:
    duration = _optional(_ref("duration"))
    flag: Schema = {"type": "boolean"}
    return {
        "max_concurrency": _optional(_whole(1)),
        "max_queue": _optional(_whole(0)),
        "timeout": duration,
        "queue_timeout": duration,
        "effects": {"enum": ["read_only", "idempotent", "non_idempotent"]},
        "isolation": {"enum": ["process", None]},
        "references": flag,
        "limits": {
            **_ref("names"),
            "items": {"not": {"enum": list(RESERVED_GROUPS)}},
        },
        "rate": _optional(_ref("rate")),
        "retry": _optional(_whole(1, MAX_ATTEMPTS), _retry()),
        "breaker": _optional(flag, _breaker()),
        "lane": _optional(_ref("lane"), _lane()),
        "coalesce": flag,
        "cache_ttl": duration,
        "share": {"enum": ["caller", "all"]},
        "context_keys": _optional(_ref("names")),
        "approval": {"enum": ["required", "none"]},
        "max_result_bytes": _optional(_whole(LEAST_RESULT_BYTES)),
        "large_result": {"enum": ["cut", "refuse"]},
    }


def _retry() -> Schema:
    keys = {
        "attempts": _whole(1, MAX_ATTEMPTS),
        "backoff": _ref("duration"),
        "max_backoff": _ref("duration"),
        "budget": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_ATTEMPTS},
        "on": {"type": "array", "items": {"enum": list(CODES)}, "uniqueItems": True},
    }
    return _described(RetryOptions, keys)


def _breaker() -> Schema:
    keys = {
        "failure_ratio": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "min_attempts": _whole(1),
        "window": _ref("duration"),
        "open": _ref("duration"),
        "probes": _whole(1),
    }
    return _described(BreakerOptions, keys)


def _lane() -> Schema:
    keys = {"key": _ref("lane"), "on_failure": {"enum": ["continue", "skip_rest"]}}
    return _described(LaneOptions, keys, ["key"])


def _setting(name: str, default: Any) -> Schema:
    if isinstance(default, tuple):
        return {"type": "array", "items": {"type": "string"}, "default": list(default)}
    if isinstance(default, float):
        return {**_duration_setting(zero=may_be_zero(name)), "default": f"{default:g}s"}
    if isinstance(default, int):
        return {**_whole(*bounds(name)), "default": default}
    schema: Schema = {"type": "string"}
    if name == "log_level":
        levels = "|".join(f"{level}|{level.lower()}" for level in LOG_LEVELS)
        schema["pattern"] = f"^({levels})$"
    elif name == "store":
        schema["pattern"] = f"^({STORE_PATTERN})$"
    if name in SECRET_SETTINGS:
        schema = {"anyOf": [schema, _ref("secret")]}
    return {**schema, "default": default}


def _duration_setting(*, zero: bool) -> Schema:
    least = "minimum" if zero else "exclusiveMinimum"
    return {
        "anyOf": [
            {"type": "number", least: 0, "maximum": MAX_DURATION_S},
            {"type": "string", "pattern": _DURATION},
        ]
    }


def _whole(least: int, most: int = MAX_COUNT) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _optional(*schemas: Schema) -> Schema:
    return {"anyOf": [*schemas, {"type": "null"}]}


def _described(
    documented: type, keys: Mapping[str, Schema], required: list[str] | None = None
) -> Schema:
    """An object with the keys of a class, and what its docstring says about them."""
    said = descriptions(documented)
    text = re.split(r"\n\s*\n", (documented.__doc__ or "").strip())[0]
    described = {key: {"description": said[key], **schema} for key, schema in keys.items()}
    return {"description": text, **_object(described, required)}


def _object(properties: Mapping[str, Schema], required: list[str] | None = None) -> Schema:
    schema: Schema = {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
    }
    return {**schema, "required": required} if required else schema
