"""The published schema is valid, and says what the loader does."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.config.test_written import _OPTIONS

from sidecall._policy import POLICY_KEYS
from sidecall_server.config import ConfigError, load
from sidecall_server.config.file import file_settings
from sidecall_server.config.schema import config_schema
from sidecall_server.config.yaml_nodes import read_yaml

SCHEMA = config_schema()
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)

GOOD = [
    "",
    "listen: ['127.0.0.1:0']\ntimeout: 30s\nqueue_timeout: 1.5\ndrain_timeout: 0\nmax_threads: 3",
    "store: memory",
    "store: sqlite:///x.db",
    "store: sqlite:////var/lib/x.db",
    "log_level: debug",
    "tools: [{python: a.py}, {python: b.c}]",
    "tools: [{host: {name: billing, tools: [refund]}}, {python: a.py}]",
    "tools: []",
    "limits: {github: {max_concurrency: 8, rate: 30/s}, other: {rate: {limit: 1/m, burst: 3}}}",
    "policies: {}",
    "policies: {'get_*': {}}",
    "policies: {a: {max_concurrency: null, max_queue: 0, timeout: 1m30s, queue_timeout: 0.1}}",
    "policies: {a: {effects: idempotent, isolation: process, references: false, limits: []}}",
    "policies: {a: {isolation: null, rate: 5/250ms, retry: 3, breaker: true, lane: 'x:{a.b}'}}",
    "policies: {a: {rate: null, retry: null, breaker: null, lane: null, cache_ttl: null}}",
    "policies: {a: {retry: {attempts: 2, backoff: 5ms, budget: 1, on: [ABORTED]}}}",
    "policies: {a: {breaker: {failure_ratio: 1, window: 1h, open: 5, probes: 2}}}",
    "policies: {a: {lane: {key: '{{x}}', on_failure: skip_rest}}}",
    "policies: {a: {coalesce: true, cache_ttl: 5s, share: all, context_keys: [tenant]}}",
    "policies: {a: {approval: required, max_result_bytes: 256, large_result: refuse}}",
]
BAD = [
    "[]",
    "max_theads: 3",
    "config: x",
    "timeout: 0",
    "timeout: '5'",
    "timeout: soon",
    "timeout: true",
    "timeout:",
    "drain_timeout: -1",
    "max_threads: 0",
    "max_threads: '3'",
    "max_threads: 65537",
    "max_message_bytes: 1",
    "listen: x",
    "listen: [3]",
    "log_level: Loud",
    "store: redis://x",
    "store: 'sqlite:///:memory:'",
    "store: {file: a, env: b}",
    "tools: a.py",
    "tools: [a.py]",
    "tools: [{}]",
    "tools: [{python: a, mcp: b}]",
    "tools: [{python: ''}]",
    "tools: [{host: {name: a}}]",
    "tools: [{host: {name: a, tools: []}}]",
    "tools: [{host: {name: a, tools: [b], c: d}}]",
    "tools: [{openapi: {}}]",
    "limits: {a: {}}",
    "limits: {threads: {rate: 1/s}}",
    "limits: {a: {rate: 1/x}}",
    "limits: {a: {max_concurrency: 0}}",
    "policies: []",
    "policies: {a: }",
    "policies: {a: {lnae: x}}",
    "policies: {a: {timeout: 0}}",
    "policies: {a: {timeout: 31536001}}",
    "policies: {a: {breaker: {window: 1e300}}}",
    "policies: {a: {effects: null}}",
    "policies: {a: {isolation: thread}}",
    "policies: {a: {limits: x}}",
    "policies: {a: {limits: [threads]}}",
    "policies: {a: {context_keys: [x, x]}}",
    "policies: {a: {rate: 10}}",
    "policies: {a: {rate: {burst: 3}}}",
    "policies: {a: {retry: 0}}",
    "policies: {a: {retry: true}}",
    "policies: {a: {retry: {on: [OK]}}}",
    "policies: {a: {retry: {atempts: 3}}}",
    "policies: {a: {breaker: 1}}",
    "policies: {a: {breaker: {failure_ratio: 1.1}}}",
    "policies: {a: {lane: ''}}",
    "policies: {a: {lane: 'x{a'}}",
    "policies: {a: {lane: '{a..b}'}}",
    "policies: {a: {lane: {on_failure: continue}}}",
    "policies: {a: {share: everyone}}",
    "policies: {a: {max_result_bytes: 255}}",
]


def is_accepted(text: str, folder: Path) -> bool:
    path = folder / "sidecall.yaml"
    path.write_text(text)
    try:
        load({"config": str(path)}, {})
    except ConfigError:
        return False
    return True


def is_valid(text: str) -> bool:
    node, mistakes = read_yaml(text)
    return VALIDATOR.is_valid(node.plain() if node else None) and not mistakes


def test_it_is_a_schema() -> None:
    jsonschema_rs.meta.validate(SCHEMA)


@pytest.mark.parametrize("text", GOOD)
def test_good_files(text: str, tmp_path: Path) -> None:
    assert is_accepted(text, tmp_path)
    assert is_valid(text)


@pytest.mark.parametrize("text", BAD)
def test_bad_files(text: str, tmp_path: Path) -> None:
    assert not is_accepted(text, tmp_path)
    assert not is_valid(text)


@given(_OPTIONS)
def test_what_the_loader_takes_is_valid(options: Any) -> None:
    assert VALIDATOR.is_valid({"policies": {"a": options}})


# No schema says how the bounds of a batch and of the sidecar depend on each other.
_KEYS = st.sampled_from(sorted({*file_settings(), "lanes", "tool"} - {"max_batch_concurrency"}))
_VALUES = st.sampled_from(["5s", "5", "x", "memory", 0, 1, 100_000, 2**31, 0.5, None, True, ["x"]])


@given(st.dictionaries(_KEYS, _VALUES, max_size=1))
def test_settings_are_valid_where_the_loader_takes_them(
    tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]
) -> None:
    text = json.dumps(settings)
    assert is_valid(text) == is_accepted(text, tmp_path_factory.getbasetemp())


def test_everything_is_described() -> None:
    def described(schema: Any, path: str) -> list[str]:
        missing = []
        for name, inner in schema.get("properties", {}).items():
            missing += [] if inner.get("description") else [f"{path}.{name}"]
            missing += described(inner, f"{path}.{name}")
        return missing

    assert described(SCHEMA, "") == []
    assert described(SCHEMA["$defs"]["policy"], "policy") == []


def test_all_keys_are_in_it() -> None:
    assert SCHEMA["properties"].keys() == {*file_settings(), "tools", "limits", "policies"}
    assert SCHEMA["$defs"]["policy"]["properties"].keys() == set(POLICY_KEYS)
