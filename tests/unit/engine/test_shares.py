"""No caller, no tool and no large value takes what others need."""

import json
from typing import Any

import pytest
from tests.support.clock import settle
from tests.support.engines import Gate, bench, bound, calls_of, echo, failure_of, reasons

from sidecall_server.core.call import Call, ToolCall
from sidecall_server.core.outcome import Reason
from sidecall_server.engine.admission import Admission


async def test_a_tool_whose_threads_never_return_leaves_half_of_them_to_others() -> None:
    stuck = Gate()
    async with bench(
        bound("stuck", stuck, groups=("threads",), timeout_s=1.0),
        bound("fine", echo, groups=("threads",)),
        max_threads=8,
    ) as b:
        await b.start(calls_of("stuck", 20))
        assert b.engine.statistics().limiters["threads"].active == 4
        assert reasons(await b.run(calls_of("fine", 4))) == ["OK"] * 4


async def test_a_caller_that_fills_a_queue_leaves_others_their_share() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=1, max_queue=10)) as b:
        noisy = await b.start(calls_of("gate", 30), caller="noisy")
        quiet = await b.start(calls_of("gate", 3), caller="quiet")
        greedy = await b.start(calls_of("gate", 1), caller="noisy")
        assert greedy.done
        gate.open(*range(30))
        await settle()

        assert reasons(noisy.calls()) == ["OK"] * 11 + ["QUEUE_FULL"] * 19
        assert reasons(quiet.calls()) == ["OK"] * 3
        assert reasons(greedy.calls()) == ["QUEUE_FULL"]
        b.assert_idle()


async def test_many_batches_that_share_few_permits_are_not_moved_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parks = 0
    original = Admission._park

    def count(self: Admission, *args: Any, **kwargs: Any) -> None:
        nonlocal parks
        parks += 1
        original(self, *args, **kwargs)

    monkeypatch.setattr(Admission, "_park", count)
    names, batches, calls = ("a", "b", "c"), 150, 6

    async with bench(
        *(bound(name, echo, max_concurrency=4) for name in names), max_concurrency=8
    ) as b:
        turns = [
            await b.start([ToolCall("", names[n % 3]) for n in range(calls)], caller=f"c{t % 7}")
            for t in range(batches)
        ]
        for turn in turns:
            await turn.task

        assert all(reasons(turn.calls()) == ["OK"] * calls for turn in turns)
        # Each flow is parked a few times for each call, however many wait.
        assert parks < 4 * batches * calls
        b.assert_idle()


async def test_references_to_references_do_not_fill_the_memory() -> None:
    async def repeat(call: Call) -> str:
        return str(call.arguments["v"])

    first = ToolCall("", "repeat", json.dumps({"v": "x" * 100}))
    doubling = [
        ToolCall("", "repeat", json.dumps({"v": f"${{ref:@{n}}}${{ref:@{n}}}"}))
        for n in range(1, 31)
    ]
    async with bench(bound("repeat", repeat), max_resolved_bytes=1_000_000) as b:
        calls = await b.run([first, *doubling])

        assert reasons(calls)[:8] == ["OK"] * 8
        failed = [call for call in calls if reasons([call]) == ["REFERENCE_UNRESOLVED"]]
        assert len(failed) == 1
        assert "1000000 bytes" in failure_of(failed[0]).message
        assert reasons(calls[failed[0].index + 1 :]) == ["DEPENDENCY_FAILED"] * (
            30 - failed[0].index
        )


async def test_each_call_gets_a_value_of_its_own() -> None:
    seen: list[object] = []

    async def change(call: Call) -> str:
        value = call.arguments["v"]
        seen.append(list(value))
        value.append("changed")
        return "done"

    async def listing(_: Call) -> str:
        return json.dumps({"nested": [1]})

    async with bench(bound("listing", listing), bound("change", change)) as b:
        calls = await b.run(
            [
                ToolCall("", "listing"),
                ToolCall("", "change", json.dumps({"v": "$ref:@1#/nested"})),
                ToolCall("", "change", json.dumps({"v": "$ref:@1#/nested"})),
            ]
        )
        assert reasons(calls) == ["OK"] * 3
        assert seen == [[1], [1]]


@pytest.mark.parametrize("count", [500])
async def test_calls_with_their_own_timeouts_end_each_at_its_time(count: int) -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=1)) as b:
        turn = await b.start(
            [ToolCall("", "gate", timeout_s=1.0 + index / 100) for index in range(count)]
        )
        await b.clock.advance(1.0 + count / 100)

        assert {failure_of(call).reason for call in turn.calls()} == {Reason.CALL_DEADLINE}
        lasted_s = [(call.finished_ns - call.received_ns) / 1e9 for call in turn.calls()]
        assert lasted_s == pytest.approx([1.0 + index / 100 for index in range(count)])
        gate.open(0)
        await settle()
        b.assert_idle()
