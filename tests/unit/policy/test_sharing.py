"""Which calls are identical, and what the cache keeps."""

from typing import Any

import pytest

from sidecall_server.core.outcome import BlobPart, Success
from sidecall_server.core.tool import Sharing
from sidecall_server.policy.memory import memory_of
from sidecall_server.policy.sharing import ResultCache, call_key

S = 1_000_000_000
OWN = Sharing(coalesce=True, cache_ttl_s=60.0, all_callers=False, context_keys=())
SHARED = Sharing(coalesce=True, cache_ttl_s=60.0, all_callers=True, context_keys=())


def key(
    arguments: dict[str, Any] | None = None,
    name: str = "search",
    sharing: Sharing = OWN,
    identity: str = "alice",
    **context: str,
) -> bytes:
    return call_key(name, arguments or {}, sharing, identity, context)


def test_the_order_of_names_does_not_matter() -> None:
    one = key({"a": {"x": 1, "y": [{"p": 1, "q": 2}]}, "b": 2})

    assert one == key({"b": 2, "a": {"y": [{"q": 2, "p": 1}], "x": 1}})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": True}),
        ({"a": 0.0}, {"a": -0.0}),
        ({"a": None}, {}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": 2**53}, {"a": 2**53 + 1}),
        ({"a": 10**40}, {"a": 10**40 + 1}),
        ({"a": "é"}, {"a": "e\u0301"}),
        ({"a": "\U0001f600"}, {"a": "\ud83d\ude00"}),
        ({"a": "\ud800"}, {"a": "\udfff"}),
        ({"a": "b", "c": "d"}, {"a": 'b","c":"d'}),
    ],
)
def test_values_that_a_tool_could_tell_apart_differ(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert key(one) != key(other)
    assert key(one) == key(one)


def test_callers_share_only_where_that_is_said() -> None:
    assert key(identity="alice") != key(identity="bob")
    assert key(identity="alice", sharing=SHARED) == key(identity="bob", sharing=SHARED)
    assert key(identity="alice") != key(identity="alice", sharing=SHARED)


def test_context_counts_where_its_key_is_named() -> None:
    sharing = Sharing(coalesce=True, cache_ttl_s=None, all_callers=True, context_keys=("tenant",))

    assert key(sharing=sharing, tenant="a", trace="1") == key(sharing=sharing, tenant="a")
    assert key(sharing=sharing, tenant="a") != key(sharing=sharing, tenant="b")
    assert key(sharing=sharing, tenant="") != key(sharing=sharing)


def test_tools_differ() -> None:
    assert key(name="search") != key(name="find")


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), "\ud800", {"\udfff": 1}],
    ids=["nan", "infinity", "surrogate", "name"],
)
def test_odd_values_have_a_key(value: object) -> None:
    assert key({"a": value}) == key({"a": value})


def test_what_cannot_be_written_is_shared_with_nobody() -> None:
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    for value in (10**5000, deep, object()):
        assert key({"a": value}) != key({"a": value})
    while deep:  # or else freeing it takes as many frames
        deep = deep.pop()


def test_a_result_answers_until_its_time_is_over() -> None:
    cache = ResultCache(10, 10**6)
    success = Success("fine")
    cache.put(b"a", success, 2.0, 0)

    assert cache.get(b"a", 2 * S - 1) is success
    assert cache.get(b"a", 2 * S) is None
    assert cache.get(b"b", 2 * S) is None
    statistics = cache.statistics()
    assert (statistics.hits, statistics.misses) == (1, 2)
    assert (statistics.entries, statistics.bytes) == (0, 0)


def test_a_later_result_replaces_an_earlier_one() -> None:
    cache = ResultCache(10, 10**6)
    later = Success("later")
    cache.put(b"a", Success("earlier"), 1.0, 0)
    cache.put(b"a", later, 5.0, 0)

    assert cache.get(b"a", 2 * S) is later
    assert cache.statistics().bytes == memory_of(later)


@pytest.mark.parametrize("ttl_s", [0.0, -1.0])
def test_what_may_not_be_kept_replaces_nothing_by_something_old(ttl_s: float) -> None:
    cache = ResultCache(10, 10**6)
    cache.put(b"a", Success("earlier"), 60.0, 0)
    cache.put(b"a", Success("later"), ttl_s, 0)

    assert cache.get(b"a", 0) is None


def test_the_least_recently_used_go_first() -> None:
    cache = ResultCache(3, 10**6)
    for name in (b"a", b"b", b"c"):
        cache.put(name, Success("fine"), 60.0, 0)
    assert cache.get(b"a", 0) is not None
    cache.put(b"d", Success("fine"), 60.0, 0)

    assert [cache.get(name, 0) is not None for name in (b"a", b"b", b"c", b"d")] == [
        True,
        False,
        True,
        True,
    ]
    assert cache.statistics().evicted == 1


def test_memory_is_bounded_whatever_the_results_are_made_of() -> None:
    cache = ResultCache(1_000, 100_000)
    texts = Success("x" * 20_000)
    blobs = Success("", parts=(BlobPart("image/png", bytes(20_000)),))
    for number in range(50):
        cache.put(bytes([number]), (texts, blobs)[number % 2], 60.0, 0)
        assert cache.statistics().bytes <= 100_000
    cache.put(b"large", Success("x" * 100_000), 60.0, 0)

    assert cache.get(b"large", 0) is None
    assert cache.statistics().entries == 4


def test_what_expired_is_freed_whatever_is_asked() -> None:
    cache = ResultCache(1_000, 10**6)
    for number in range(100):
        cache.put(bytes([number]), Success("fine"), 1 + number, 0)

    cache.get(b"another", 50 * S)

    assert cache.statistics().entries == 50


def test_what_is_remembered_of_expiry_does_not_grow() -> None:
    cache = ResultCache(10, 10**6)
    for number in range(10_000):
        cache.put(str(number % 37).encode(), Success("fine"), 3_600.0, number)

    assert len(cache._due) <= 100
