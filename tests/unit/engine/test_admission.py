"""Permits: all at once or none; turns: fair, and nobody is forgotten."""

from collections import Counter

from tests.support.clock import settle
from tests.support.engines import Gate, bench, bound, calls_of, echo, reasons

from sidecall_server.core.call import Call, ToolCall
from sidecall_server.engine.engine import Engine


def held(engine: Engine) -> dict[str, int]:
    limiters = engine.statistics().limiters
    return {name: limiter.active for name, limiter in limiters.items() if limiter.active}


def waiting(engine: Engine) -> dict[str, int]:
    limiters = engine.statistics().limiters
    return {name: limiter.waiting for name, limiter in limiters.items() if limiter.waiting}


async def test_a_call_that_lacks_one_permit_holds_none() -> None:
    slow, other = Gate(), Gate()
    async with bench(
        bound("slow", slow, max_concurrency=1, groups=("processes",)),
        bound("other", other, groups=("processes",)),
        max_processes=2,
    ) as b:
        await b.start(calls_of("slow", 3))
        assert held(b.engine) == {"slow": 1, "processes": 1, "sidecar": 1}
        assert waiting(b.engine) == {"slow": 1}

        await b.start(calls_of("other", 2))
        assert held(b.engine) == {"slow": 1, "other": 1, "processes": 2, "sidecar": 2}
        assert waiting(b.engine) == {"slow": 1, "processes": 1}


async def test_the_limit_of_a_tool_holds_across_batches() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=3)) as b:
        turns = [await b.start(calls_of("gate", 4), caller=f"c{n % 2}") for n in range(4)]
        assert gate.running.total() == 3
        gate.open(*range(4))
        await settle()

        assert [reasons(turn.calls()) for turn in turns] == [["OK"] * 4] * 4
        assert gate.peak == 3
        b.assert_idle()


async def test_the_limit_of_a_batch_holds_across_its_tools() -> None:
    first, second = Gate(), Gate()
    async with bench(bound("first", first), bound("second", second)) as b:
        turn = await b.start([*calls_of("first", 4), *calls_of("second", 4)], max_concurrency=2)
        assert first.running.total() + second.running.total() == 2
        # Both tools have a turn, although all calls of the first came before.
        assert (first.started, second.started) == ([0], [4])
        first.open(*range(8))
        second.open(*range(8))
        await settle()

        assert reasons(turn.calls()) == ["OK"] * 8


async def test_a_batch_can_narrow_its_limit_but_not_widen_it() -> None:
    gate = Gate()
    async with bench(bound("gate", gate), max_batch_concurrency=3) as b:
        wide = await b.start(calls_of("gate", 9), max_concurrency=100)
        assert gate.running.total() == 3
        gate.open(*range(9))
        await settle()

        assert reasons(wide.calls()) == ["OK"] * 9
        assert gate.peak == 3


async def test_one_tool_takes_at_most_half_of_the_sidecar() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=99), bound("echo", echo),
                     max_concurrency=8) as b:  # fmt: skip
        await b.start(calls_of("gate", 20))
        assert gate.running.total() == 4
        other = await b.run(calls_of("echo", 3))

        assert reasons(other) == ["OK"] * 3


async def test_a_group_is_shared_by_its_tools() -> None:
    first, second = Gate(), Gate()
    async with bench(
        bound("first", first, groups=("processes",)),
        bound("second", second, groups=("processes",)),
        max_processes=3,
    ) as b:
        turns = [await b.start(calls_of(name, 4)) for name in ("first", "second")]
        for index in range(4):
            assert first.running.total() + second.running.total() <= 3
            first.open(index)
            second.open(index)
            await settle()

        assert [reasons(turn.calls()) for turn in turns] == [["OK"] * 4] * 2
        assert b.engine.statistics().limiters["processes"].peak == 3
        b.assert_idle()


async def test_a_small_batch_is_not_behind_the_backlog_of_a_large_one() -> None:
    order: list[str] = []

    async def note(call: Call) -> str:
        order.append(call.options.caller)
        return "done"

    gate = Gate()
    async with bench(bound("note", note, max_concurrency=1), bound("gate", gate)) as b:
        first = await b.start(
            [ToolCall("", "gate"), *(ToolCall("", "note", depends_on=("@1",)) for _ in range(100))],
            caller="large",
        )
        second = await b.start(
            [ToolCall("", "gate"), *(ToolCall("", "note", depends_on=("@1",)) for _ in range(5))],
            caller="small",
        )
        gate.open(0)
        await settle()

        assert first.done
        assert second.done
        last = len(order) - order[::-1].index("small")
        assert last <= 12
        assert Counter(order) == {"large": 100, "small": 5}


async def test_turns_go_round_callers_before_they_go_round_batches() -> None:
    gate = Gate()
    order: list[str] = []

    async def note(call: Call) -> str:
        order.append(call.options.caller)
        return await gate(call)

    async with bench(bound("note", note, max_concurrency=1)) as b:
        await b.start(calls_of("note", 1), caller="first")
        for _ in range(6):
            await b.start(calls_of("note", 1), caller="busy")
        await b.start(calls_of("note", 1), caller="quiet")
        gate.open(0)
        await settle()

        assert order.index("quiet") <= 2
        b.assert_idle()


async def test_a_saturated_tool_does_not_keep_others_from_running() -> None:
    stuck = Gate()
    async with bench(bound("stuck", stuck, max_concurrency=2), bound("echo", echo)) as b:
        await b.start(calls_of("stuck", 50))
        turn = await b.start([*calls_of("stuck", 2), *calls_of("echo", 50)])
        assert not turn.done
        batch = next(batch for batch in b.engine._open if len(batch.calls) == 52)

        assert all(batch.calls[index].outcome is not None for index in range(2, 52))


async def test_a_wait_for_the_whole_sidecar_ends_before_one_tools_backlog() -> None:
    busy, other = Gate(), Gate()
    async with bench(
        bound("busy", busy), bound("more", busy), bound("other", other), max_concurrency=2
    ) as b:
        backlog = await b.start([ToolCall("", n) for n in ("busy", "more") for _ in range(20)])
        turn = await b.start(calls_of("other", 1), caller="someone else")
        assert busy.running.total() == 2
        busy.open(busy.started[0])
        await settle()

        assert other.started == [0]
        busy.open(*range(40))
        other.open(0)
        await settle()
        assert reasons(turn.calls()) == ["OK"]
        assert reasons(backlog.calls()) == ["OK"] * 40
        b.assert_idle()


async def test_what_gives_up_waiting_leaves_no_trace_in_the_queue() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=1, queue_timeout_s=1.0)) as b:
        first = await b.start(calls_of("gate", 1))
        second = await b.start(calls_of("gate", 3))
        await b.clock.advance(1.0)
        assert reasons(second.calls()) == ["QUEUE_TIMEOUT"] * 3
        assert waiting(b.engine) == {}
        third = await b.start(calls_of("gate", 1))
        gate.open(0)
        await settle()

        assert first.done
        assert reasons(third.calls()) == ["OK"]
        b.assert_idle()


async def test_a_full_queue_answers_at_once_and_says_when_to_come_again() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=2, max_queue=3)) as b:
        turn = await b.start(calls_of("gate", 9))
        gate.open(*range(9))
        await settle()
        calls = turn.calls()

        assert reasons(calls) == ["OK"] * 5 + ["QUEUE_FULL"] * 4
        assert all(call.attempt == 0 for call in calls[5:])
        outcome = calls[5].outcome
        assert getattr(outcome, "retry_after_s", None) is not None
        assert reasons(await b.run(calls_of("gate", 5))) == ["OK"] * 5
        b.assert_idle()


async def test_without_a_queue_only_free_permits_count() -> None:
    gate = Gate()
    async with bench(bound("gate", gate, max_concurrency=2, max_queue=0)) as b:
        turn = await b.start(calls_of("gate", 3))
        late = await b.run([ToolCall("", "gate")])
        assert reasons(late) == ["QUEUE_FULL"]
        gate.open(*range(3))
        await settle()

        assert reasons(turn.calls()) == ["OK", "OK", "QUEUE_FULL"]


async def test_a_worker_goes_on_with_the_next_call_only_where_nobody_else_waits() -> None:
    """The handover of a permit within a batch must not take a turn from another one."""
    gates = {"a": Gate(), "b": Gate()}
    order: list[tuple[str, int]] = []

    async def note(call: Call) -> str:
        order.append((call.options.caller, call.index))
        return await gates[call.options.caller](call)

    async with bench(bound("note", note, max_concurrency=1)) as b:
        first = await b.start(calls_of("note", 3), caller="a")
        second = await b.start(calls_of("note", 3), caller="b")
        for index in range(3):
            gates["a"].open(index)
            gates["b"].open(index)
            await settle()

        assert order == [("a", 0), ("a", 1), ("b", 0), ("a", 2), ("b", 1), ("b", 2)]
        assert first.done
        assert second.done


async def test_ten_thousand_calls_run_once_each_and_within_the_limits() -> None:
    order: list[int] = []

    async def note(call: Call) -> str:
        order.append(call.index)
        return str(call.index)

    async with bench(bound("note", note)) as b:
        turn = await b.start(calls_of("note", 10_000))
        calls = list((await turn.task).calls.values())

        assert sorted(order) == list(range(10_000))
        assert reasons(calls) == ["OK"] * 10_000
        assert b.engine.statistics().limiters["sidecar"].peak <= 512
        b.assert_idle()
