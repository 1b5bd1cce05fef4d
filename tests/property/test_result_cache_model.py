"""The cache against a dictionary, and keys of calls against equality."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecall_server.core.outcome import Success
from sidecall_server.core.tool import Sharing
from sidecall_server.policy.memory import memory_of
from sidecall_server.policy.sharing import ResultCache, call_key

S = 1_000_000_000
SHARING = Sharing(coalesce=True, cache_ttl_s=None, all_callers=False, context_keys=("t", "u"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)
CALLS = st.tuples(
    st.sampled_from(["search", "find"]),
    ARGUMENTS,
    st.sampled_from(["", "alice", "null"]),
    st.dictionaries(st.sampled_from("tux"), st.sampled_from(["", "1"])),
)
Call = tuple[str, dict[str, Any], str, dict[str, str]]


def meaning(call: Call) -> object:
    name, arguments, identity, context = call
    counted = {name: value for name, value in context.items() if name != "x"}
    return name, json.dumps(arguments, sort_keys=True, ensure_ascii=False), identity, counted


@given(CALLS, CALLS)
def test_keys_are_equal_where_calls_are(one: Call, other: Call) -> None:
    keys = [call_key(name, a, SHARING, identity, c) for name, a, identity, c in (one, other)]

    assert (keys[0] == keys[1]) == (meaning(one) == meaning(other))
    name, arguments, identity, context = one
    turned = dict(reversed(arguments.items()))
    assert keys[0] == call_key(name, turned, SHARING, identity, context)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["get", "put", "wait"]),
        st.sampled_from([b"a", b"b", b"c", b"d", b"e"]),
        st.integers(0, 5),
    ),
    max_size=80,
)


@given(ACTIONS)
def test_a_small_cache_gives_only_what_was_put_and_has_not_expired(
    actions: list[tuple[str, bytes, int]],
) -> None:
    max_entries, max_bytes = 3, 3 * memory_of(Success(""))
    cache = ResultCache(max_entries, max_bytes)
    model: dict[bytes, tuple[Success, int]] = {}  # least recently used first
    now_ns = 0
    for action, key, number in actions:
        if action == "wait":
            now_ns += number * S
        model = {k: entry for k, entry in model.items() if entry[1] > now_ns}
        if action == "put":
            success = Success("x" * 100 * number)
            cache.put(key, success, number, now_ns)
            model.pop(key, None)
            if number:
                model[key] = (success, now_ns + number * S)
            while len(model) > max_entries or memory(model) > max_bytes:
                model.pop(next(iter(model)))
        elif action == "get":
            expected = model.pop(key, None)
            assert cache.get(key, now_ns) is (expected and expected[0])
            if expected is not None:
                model[key] = expected
        cache.expire(now_ns)
        assert cache.statistics().entries == len(model)
        assert cache.statistics().bytes == memory(model)


def memory(model: dict[bytes, tuple[Success, int]]) -> int:
    return sum(memory_of(success) for success, _ in model.values())
