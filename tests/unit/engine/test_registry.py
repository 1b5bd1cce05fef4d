"""The tools in force."""

from typing import Any

import pytest
from rapidfuzz import process
from tests.support.clock import settle
from tests.support.engines import Gate, bench, bound, echo, failure_of, reasons, text_of

from sidecall_server.core.call import ToolCall
from sidecall_server.core.defaults import Limits
from sidecall_server.core.outcome import Reason
from sidecall_server.core.tool import Effects, ToolSpec
from sidecall_server.engine import registry as registry_module
from sidecall_server.engine.registry import Registry, ToolTable, tool_not_found


def registry(**limits: int) -> Registry:
    return Registry(Limits(**limits))


def test_tools_are_found_by_name_and_listed_in_order() -> None:
    tools = registry()
    tools.swap([bound("b", echo), bound("a", echo)])

    assert list(tools.tools) == ["a", "b"]


def test_the_values_in_force_are_the_tools_or_the_defaults() -> None:
    tools = registry(max_concurrency=100)
    tools.swap(
        [
            bound("plain", echo),
            bound("own", echo, max_concurrency=7, timeout_s=0.5, queue_timeout_s=2.0, max_queue=0),
            bound("greedy", echo, max_concurrency=1_000),
        ]
    )
    plain, own = tools.tools["plain"], tools.tools["own"]

    assert (plain.limiter.limit, plain.queue.max_calls) == (50, 10_000)
    assert (plain.timeout_ns, plain.queue_timeout_ns) == (60_000_000_000, 60_000_000_000)
    assert (own.limiter.limit, own.queue.max_calls) == (7, 0)
    assert (own.timeout_ns, own.queue_timeout_ns) == (500_000_000, 2_000_000_000)
    assert tools.tools["greedy"].limiter.limit == 50


def test_the_revision_changes_with_what_a_model_sees() -> None:
    tools = registry()
    tools.swap([bound("a", echo)])
    revision = tools.revision
    tools.swap([bound("a", echo)])
    assert tools.revision == revision

    for changed in (
        [bound("b", echo)],
        [bound("a", echo), bound("b", echo)],
        [bound("a", echo, effects=Effects.READ_ONLY)],
        [bound("a", echo, input_schema={"type": "object", "properties": {}})],
        [bound("a", echo, timeout_s=1.0)],
        [],
    ):
        tools.swap(changed)
        assert tools.revision != revision


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([bound("new", echo), bound("new", echo)], "two tools are named 'new'"),
        ([bound("new", echo), bound("bad", echo, input_schema={"type": 5})], "tool 'bad'"),
        ([bound("new", echo), bound("bad", echo, groups=("nothing",))], "no limit 'nothing'"),
    ],
)
def test_a_bad_set_of_tools_changes_nothing(tools: list[object], message: str) -> None:
    kept = registry()
    kept.swap([bound("old", echo, max_concurrency=3)])
    before, revision = kept.tools, kept.revision
    with pytest.raises(ValueError, match=message):
        kept.swap(tools)  # type: ignore[arg-type]  # BoundTool has no plain name here

    assert kept.tools is before
    assert kept.revision == revision
    assert {limiter.name for limiter in kept.limiters()} == {"old", "threads", "processes"}


def test_a_swap_describes_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    described: list[str] = []
    describe = registry_module._digest

    def note(spec: ToolSpec) -> bytes:
        described.append(spec.name)
        return describe(spec)

    monkeypatch.setattr(registry_module, "_digest", note)
    tools = registry()
    own = [bound(name, echo) for name in "abc"]
    tools.swap(own)
    first = tools.revision
    tools.swap([*own, bound("hosted", echo)])
    assert described == ["a", "b", "c", "hosted"]
    tools.swap(own)
    assert described == ["a", "b", "c", "hosted"]
    assert tools.revision == first


async def test_a_batch_keeps_the_tools_it_started_with() -> None:
    gate = Gate()

    async def new(_: object) -> str:
        return "new"

    async with bench(bound("gate", gate), bound("echo", echo)) as b:
        later = ToolCall("", "echo", depends_on=("@1",))
        turn = await b.start([ToolCall("", "gate"), later])
        b.engine.registry.swap([bound("echo", new)])
        gate.open(0)
        await settle()

        assert text_of(turn.calls()[1]) == "done"
        assert reasons(await b.run([ToolCall("", "gate")])) == ["TOOL_NOT_FOUND"]
        assert text_of((await b.run([ToolCall("", "echo")]))[0]) == "new"
        b.assert_idle()


async def test_a_limit_belongs_to_the_name_and_holds_across_a_swap() -> None:
    old, new = Gate(), Gate()
    async with bench(bound("gate", old, max_concurrency=2)) as b:
        first = await b.start([ToolCall("", "gate"), ToolCall("", "gate")])
        b.engine.registry.swap([bound("gate", new, max_concurrency=1)])
        second = await b.start([ToolCall("", "gate")])
        assert new.started == []
        old.open(0)
        await settle()
        assert new.started == []  # one of the old ones still runs, and the limit is one
        old.open(1)
        new.open(0)
        await settle()

        assert first.done
        assert reasons(second.calls()) == ["OK"]
        b.assert_idle()


async def test_names_that_come_and_go_are_not_kept_for_ever() -> None:
    tools = registry()
    tools.swap([bound("used", echo), bound("unused", echo)])
    table = tools.tools
    limiter = table["used"].limiter
    for number in range(1_100):
        tools.swap([bound(f"of host {number}", echo)])
    assert len(tools.states()) <= 1_003
    tools.swap([bound("used", echo)])
    assert tools.tools["used"].limiter is limiter, "an open batch may hold permits of it"


def test_an_unknown_tool_is_told_near_names() -> None:
    known = ["get_weather", "get_time", "send_mail"]
    failure = tool_not_found("get_wether", known)

    assert failure.reason is Reason.TOOL_NOT_FOUND
    assert "Did you mean 'get_weather'" in failure.message
    assert "send_mail" not in failure.message


async def test_near_names_are_looked_for_once_per_name_and_set_of_tools(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_for: list[str] = []
    extract: Any = process.extract

    def counted(name: str, *args: object, **kwargs: object) -> object:
        looked_for.append(name)
        return extract(name, *args, **kwargs)

    monkeypatch.setattr(process, "extract", counted)
    async with bench(bound("get_weather", echo)) as b:
        calls = await b.run([ToolCall("", "get_wether")] * 500 + [ToolCall("", "get_time")])
        assert looked_for == ["get_wether", "get_time"]
        assert "'get_weather'" in failure_of(calls[499]).message
        b.engine.registry.swap([bound("get_wether2", echo)])
        (call,) = await b.run([ToolCall("", "get_wether")])
        assert "'get_wether2'" in failure_of(call).message


def test_what_is_kept_of_unknown_names_is_bounded() -> None:
    tools = registry()
    tools.swap([bound("a", echo)])
    for number in range(3_000):
        assert f"'x{number}'" in tool_not_found(f"x{number}", tools.tools).message

    assert isinstance(tools.tools, ToolTable)
    assert len(tools.tools.not_found) <= 1_024


def test_an_unknown_tool_that_is_near_to_none_is_told_all() -> None:
    assert "The tools are: a, b." in tool_not_found("xyzzy", ["a", "b"]).message
    assert tool_not_found("xyzzy", [f"t{n}" for n in range(99)]).message.count("t") < 60
    assert "There are no tools." in tool_not_found("xyzzy", []).message
