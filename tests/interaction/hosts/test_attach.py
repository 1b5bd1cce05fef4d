"""Hosts through a real channel: what an application sees that attaches, and its callers."""

import asyncio
from collections.abc import Callable

import grpc
from tests.interaction.conftest import StartServing
from tests.support.batches import COMPLETED, NOT_STARTED, UNKNOWN, call, check_failure, reasons
from tests.support.raw_host import WAIT_S, RawHost, listed, offered
from tests.support.serving import Serving

from sidecall.v1 import execution_pb2, tool_host_pb2, tool_pb2, tool_service_pb2

NON_IDEMPOTENT = tool_pb2.EFFECTS_NON_IDEMPOTENT


async def until_listed(
    sidecar: Serving, condition: Callable[[dict[str, tool_pb2.Tool]], bool]
) -> None:
    """Polls the list of tools until a condition holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition(await listed(sidecar)):  # noqa: ASYNC110  clients poll it as well
            await asyncio.sleep(0.01)


class TestCalls:
    async def test_a_call_runs_in_the_application(self, sidecar: Serving) -> None:
        schema = '{"type": "object", "properties": {"n": {"type": "integer", "default": 2}}}'
        async with RawHost(sidecar.address, offered("double", input_schema=schema)) as host:
            attached = await host.attached()
            assert attached.instance_id == sidecar.app.engine.instance_id
            sent = sidecar.begin(
                call("double", id="c1", idempotency_key="k"), context={"tenant": "acme"}
            )
            received = await host.call()
            assert (received.name, received.arguments) == ("double", '{"n":2}')
            assert (received.call_id, received.attempt) == ("c1", 1)
            assert (dict(received.context), received.idempotency_key) == ({"tenant": "acme"}, "k")
            assert 0 < received.timeout.ToNanoseconds() <= 60e9
            host.send(result=tool_host_pb2.HostResult(attempt_id=received.attempt_id, json="4"))
            (result,) = (await sent).results
        assert (result.content, result.execution_state, result.attempts) == ("4", COMPLETED, 1)

    async def test_references_lead_to_and_from_the_application(self, sidecar: Serving) -> None:
        async with RawHost(sidecar.address, offered("remote")) as host:
            await host.attached()
            sent = sidecar.begin(
                call("echo", {"text": "here"}),
                call("remote", {"v": "$ref:@1"}),
                call("echo", {"text": "$ref:@2#/v"}),
            )
            received = await host.call()
            assert received.arguments == '{"v":"here"}'
            host.send(
                result=tool_host_pb2.HostResult(
                    attempt_id=received.attempt_id, json='{"v": "there"}'
                )
            )
            assert [r.content for r in (await sent).results][2] == "there"

    async def test_slots_are_the_bound_and_the_order_is_kept(self, sidecar: Serving) -> None:
        async with RawHost(sidecar.address, offered("remote"), max_concurrency=2) as host:
            await host.attached()
            assert (await listed(sidecar))["remote"].limits.max_concurrency == 2
            sent = sidecar.begin(*[call("remote", {"n": n}) for n in range(5)])
            first, second = await host.call(), await host.call()
            assert sidecar.statistics.limiters["remote"].active == 2
            host.answer(second)
            third = await host.call()
            for held in (first, third):
                host.answer(held)
            fourth, fifth = await host.call(), await host.call()
            host.answer(fourth)
            host.answer(fifth)
            order = [m.arguments for m in (first, second, third, fourth, fifth)]
            assert order == [f'{{"n":{n}}}' for n in range(5)]
            assert reasons((await sent).results) == ["OK"] * 5

    async def test_two_tools_share_the_slots_of_one_host(self, sidecar: Serving) -> None:
        tools = (offered("a"), offered("b"))
        async with RawHost(sidecar.address, *tools, max_concurrency=1) as host:
            await host.attached()
            sent = sidecar.begin(call("a"), call("b"))
            first = await host.call()
            host.answer(first)
            second = await host.call()
            host.answer(second)
            assert {first.name, second.name} == {"a", "b"}
            assert reasons((await sent).results) == ["OK", "OK"]

    async def test_what_waits_for_slots_takes_no_room_from_other_tools(
        self, start_sidecar: StartServing
    ) -> None:
        sidecar = await start_sidecar(max_concurrency=10)
        tools = [offered(f"remote-{n}") for n in range(20)]
        async with RawHost(sidecar.address, *tools, max_concurrency=2) as host:
            await host.attached()
            sent = sidecar.begin(*[call(tool.name) for tool in tools])
            await host.call()
            await sidecar.until(lambda s: s.queued == 18)
            assert sidecar.statistics.limiters["sidecar"].active == 2
            assert sidecar.statistics.limiters["application 'a test'"].active == 2
            assert reasons(await sidecar.run(call("echo", {"text": "x"}))) == ["OK"]
            sent.cancel()

    async def test_parts_and_failures(self, sidecar: Serving) -> None:
        async with RawHost(sidecar.address, offered("remote")) as host:
            await host.attached()
            sent = sidecar.begin(*[call("remote", {"n": n}) for n in range(5)])
            calls = [await host.call() for _ in range(5)]
            parts = [
                execution_pb2.ResultPart(text="A picture:"),
                execution_pb2.ResultPart(
                    blob=execution_pb2.Blob(media_type="image/png", data=b"\x89PNG", name="a.png")
                ),
            ]
            host.send(
                result=tool_host_pb2.HostResult(
                    attempt_id=calls[0].attempt_id, parts=tool_host_pb2.HostParts(parts=parts)
                )
            )
            host.fail(calls[1], 5, "There is no such invoice.")
            host.fail(calls[2], 14, "Later.", execution_state=NOT_STARTED)
            host.send(result=tool_host_pb2.HostResult(attempt_id=calls[3].attempt_id, json="{"))
            host.fail(calls[4], 3, "No such city.", execution_state=NOT_STARTED)
            picture, missing, later, malformed, unfit = (await sent).results
        check_failure(unfit, "ARGUMENTS_INVALID", grpc.StatusCode.INVALID_ARGUMENT, NOT_STARTED)
        assert picture.content == "A picture:\n[image/png, 4 bytes: a.png]"
        assert list(picture.parts) == parts
        check_failure(missing, "TOOL_FAILED", grpc.StatusCode.NOT_FOUND, COMPLETED)
        assert missing.content == "There is no such invoice."
        check_failure(later, "TOOL_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE, NOT_STARTED)
        assert later.attempts == 0
        check_failure(malformed, "TOOL_FAILED", grpc.StatusCode.UNKNOWN, COMPLETED)

    async def test_arguments_that_the_host_cannot_receive_are_not_sent(
        self, sidecar: Serving
    ) -> None:
        async with RawHost(sidecar.address, offered("remote"), max_message_bytes=1_000) as host:
            await host.attached()
            (large,) = await sidecar.run(call("remote", {"text": "x" * 2_000}))
            check_failure(large, "TOOL_FAILED", grpc.StatusCode.RESOURCE_EXHAUSTED, NOT_STARTED)
            sent = sidecar.begin(call("remote"))
            host.answer(await host.call())
            assert reasons((await sent).results) == ["OK"]

    async def test_what_the_sidecar_cannot_send_costs_only_its_own_call(
        self, start_sidecar: StartServing
    ) -> None:
        sidecar = await start_sidecar(max_message_bytes=64 * 1024)
        tool = offered("remote")
        async with RawHost(sidecar.address, tool, max_message_bytes=1 << 40) as host:
            await host.attached()
            sent = sidecar.begin(
                call("echo", {"text": "x" * 40_000}),
                call("remote", {"twice": ["$ref:@1", "$ref:@1"]}),
                call("remote"),
            )
            host.answer(await host.call())
            _, large, small = (await sent).results
        check_failure(large, "TOOL_FAILED", grpc.StatusCode.RESOURCE_EXHAUSTED, NOT_STARTED)
        assert "65536" in large.content
        assert small.content == "done"

    async def test_trace_context_is_passed_on(self, sidecar: Serving) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        async with RawHost(sidecar.address, offered("remote")) as host:
            await host.attached()
            sent = sidecar.stub.ExecuteBatch(
                tool_service_pb2.ExecuteBatchRequest(calls=[call("remote")]),
                metadata=(("traceparent", trace), ("tracestate", "a=b")),
            )
            received = await host.call()
            host.answer(received)
            await sent
        assert (received.traceparent, received.tracestate) == (trace, "a=b")

    async def test_progress_and_partial_output_reach_a_stream(self, sidecar: Serving) -> None:
        async with RawHost(sidecar.address, offered("remote")) as host:
            await host.attached()
            stream = sidecar.stub.StreamBatch()
            start = tool_service_pb2.StreamStart()
            await stream.write(tool_service_pb2.StreamBatchRequest(start=start))
            sent = tool_service_pb2.StreamCall(index=0, call=call("remote"))
            await stream.write(tool_service_pb2.StreamBatchRequest(call=sent))
            seal = tool_service_pb2.StreamSeal(call_count=1)
            await stream.write(tool_service_pb2.StreamBatchRequest(seal=seal))
            await stream.done_writing()
            received = await host.call()
            host.send(
                progress=tool_host_pb2.HostProgress(
                    attempt_id=received.attempt_id, progress=1, total=3, message="reading"
                )
            )
            host.send(
                partial_output=tool_host_pb2.HostPartialOutput(
                    attempt_id=received.attempt_id, text="so far"
                )
            )
            host.answer(received)
            events = [event async for message in stream for event in message.events]
        progress = next(e.progress for e in events if e.HasField("progress"))
        assert (progress.progress, progress.total, progress.message) == (1, 3, "reading")
        assert [e.partial_output.text for e in events if e.HasField("partial_output")] == ["so far"]


class TestCancellation:
    async def test_a_timeout_is_told_and_the_permit_stays_until_the_end(
        self, sidecar: Serving
    ) -> None:
        limits = tool_pb2.ToolLimits()
        limits.timeout.FromMilliseconds(50)
        async with RawHost(
            sidecar.address, offered("slow", limits=limits), max_concurrency=1
        ) as host:
            await host.attached()
            (late,) = await sidecar.run(call("slow"))
            check_failure(late, "TOOL_TIMEOUT", grpc.StatusCode.DEADLINE_EXCEEDED, UNKNOWN)
            received = await host.call()
            assert await host.cancelled() == received.attempt_id
            assert sidecar.statistics.limiters["slow"].active == 1
            host.answer(received)
            await sidecar.until(lambda s: s.limiters["slow"].active == 0)
            sent = sidecar.begin(call("slow"))
            host.answer(await host.call(), "in time")
            assert (await sent).results[0].content == "in time"

    async def test_a_client_that_cancels_takes_back_what_waits(self, sidecar: Serving) -> None:
        tools = (offered("a"), offered("b"))
        async with RawHost(sidecar.address, *tools, max_concurrency=1) as host:
            await host.attached()
            sent = sidecar.begin(call("a"), call("b"))
            received = await host.call()
            sent.cancel()
            assert await host.cancelled() == received.attempt_id
            host.answer(received)
            await sidecar.until(lambda s: s.running == 0)
            following = sidecar.begin(call("a", id="next"))
            assert (await host.call()).call_id == "next"
            following.cancel()
            await host.cancelled()


class TestDisappearance:
    async def test_what_was_running_is_unknown(self, sidecar: Serving) -> None:
        tool = offered("pay", effects=NON_IDEMPOTENT)
        async with RawHost(sidecar.address, tool) as one:
            await one.attached()
            sent = sidecar.begin(call("pay"))
            await one.call()
            async with RawHost(sidecar.address, tool) as other:
                await other.attached()
                one.kill()
                (lost,) = (await sent).results
        check_failure(lost, "HOST_DETACHED", grpc.StatusCode.UNAVAILABLE, UNKNOWN)

    async def test_what_may_run_twice_goes_to_another_host(self, sidecar: Serving) -> None:
        async with RawHost(sidecar.address, offered("read")) as one:
            await one.attached()
            sent = sidecar.begin(call("read"))
            await one.call()
            async with RawHost(sidecar.address, offered("read")) as other:
                await other.attached()
                one.kill()
                received = await other.call()
                assert received.attempt == 2
                other.answer(received)
                (result,) = (await sent).results
        assert (result.content, result.attempts) == ("done", 2)

    async def test_a_call_that_kills_its_hosts_ends(self, sidecar: Serving) -> None:
        async with (
            RawHost(sidecar.address, offered("read")) as a,
            RawHost(sidecar.address, offered("read")) as b,
            RawHost(sidecar.address, offered("read")) as c,
            RawHost(sidecar.address, offered("read")) as d,
        ):
            hosts = [a, b, c, d]
            for host in hosts:
                await host.attached()
            sent = sidecar.begin(call("read"))
            calls = {asyncio.ensure_future(host.call()): host for host in hosts}
            for _ in range(3):
                (done, *_), _ = await asyncio.wait(
                    calls, timeout=20, return_when=asyncio.FIRST_COMPLETED
                )
                calls.pop(done).kill()
            (result,) = (await sent).results
            for left in calls:
                left.cancel()
            await asyncio.wait(calls)
        check_failure(result, "HOST_DETACHED", grpc.StatusCode.UNAVAILABLE, UNKNOWN)
        assert result.attempts == 3

    async def test_what_waits_goes_to_another_host_or_is_not_started(
        self, sidecar: Serving
    ) -> None:
        tools = (offered("a", effects=NON_IDEMPOTENT), offered("b", effects=NON_IDEMPOTENT))
        async with RawHost(sidecar.address, *tools, max_concurrency=1) as one:
            await one.attached()
            sent = sidecar.begin(call("a"), call("b"))
            await one.call()
            await sidecar.until(lambda s: (s.running, s.queued) == (1, 1))
            one.kill()
            by_state = {r.execution_state: r for r in (await sent).results}
        check_failure(by_state[UNKNOWN], "HOST_DETACHED", grpc.StatusCode.UNAVAILABLE, UNKNOWN)
        check_failure(
            by_state[NOT_STARTED], "HOST_DETACHED", grpc.StatusCode.UNAVAILABLE, NOT_STARTED
        )
        assert by_state[NOT_STARTED].attempts == 0

    async def test_a_tool_without_a_host_is_unavailable_and_then_forgotten(
        self, start_sidecar: StartServing
    ) -> None:
        sidecar = await start_sidecar(host_retention_s=0.3)
        async with RawHost(sidecar.address, offered("remote")) as host:
            await host.attached()
            assert (await listed(sidecar))["remote"].health == tool_pb2.TOOL_HEALTH_AVAILABLE
            host.kill()
            unavailable = tool_pb2.TOOL_HEALTH_UNAVAILABLE
            await until_listed(sidecar, lambda tools: tools["remote"].health == unavailable)
            (result,) = await sidecar.run(call("remote"))
            check_failure(result, "HOST_DETACHED", grpc.StatusCode.UNAVAILABLE, NOT_STARTED)
            await until_listed(sidecar, lambda tools: "remote" not in tools)
            assert reasons(await sidecar.run(call("remote"))) == ["TOOL_NOT_FOUND"]

    async def test_a_silent_host_is_detached(self, start_sidecar: StartServing) -> None:
        sidecar = await start_sidecar(host_silence_timeout_s=0.3)
        async with RawHost(sidecar.address, offered("pay", effects=NON_IDEMPOTENT)) as host:
            attached = await host.attached()
            assert attached.silence_timeout.ToMilliseconds() == 300
            assert 0 < attached.heartbeat_interval.ToMilliseconds() <= 100
            sent = sidecar.begin(call("pay"))
            await host.call()
            assert reasons((await sent).results) == ["HOST_DETACHED"]
            end = await host.end()
        assert (end["code"], end["reason"]) == ("DEADLINE_EXCEEDED", "HOST_SILENT")

    async def test_heartbeats_keep_a_host(self, start_sidecar: StartServing) -> None:
        sidecar = await start_sidecar(host_silence_timeout_s=1)
        async with RawHost(sidecar.address, offered("remote")) as host:
            await host.attached()
            beats = 0
            while beats < 6:
                message = await host.stream.read()
                assert message.WhichOneof("message") == "heartbeat"
                beats += 1
                host.send(heartbeat=tool_host_pb2.HostHeartbeat())
            sent = sidecar.begin(call("remote"))
            host.answer(await host.call())
            assert reasons((await sent).results) == ["OK"]


class TestDrain:
    async def test_a_host_that_drains_ends_what_it_has(self, sidecar: Serving) -> None:
        async with RawHost(sidecar.address, offered("remote")) as one:
            await one.attached()
            sent = sidecar.begin(call("remote", id="first"))
            received = await one.call()
            async with RawHost(sidecar.address, offered("remote"), max_concurrency=1) as other:
                await other.attached()
                one.send(drain=tool_host_pb2.HostDrain())
                hosts = sidecar.app.hosts.hosts.values()
                await sidecar.until(lambda _: [host.is_open for host in hosts] == [False, True])
                for number in range(3):
                    following = sidecar.begin(call("remote", id=f"next {number}"))
                    other.answer(await other.call())
                    assert reasons((await following).results) == ["OK"]
                assert (await one.message()).WhichOneof("message") == "draining"
                one.answer(received, "from the first")
                one.half_close()
                assert (await sent).results[0].content == "from the first"
                assert (await one.end())["code"] == "OK"

    async def test_a_sidecar_that_stops_lets_its_hosts_go(
        self, start_sidecar: StartServing
    ) -> None:
        sidecar = await start_sidecar()
        async with RawHost(sidecar.address, offered("remote")) as host:
            await host.attached()
            sent = sidecar.begin(call("remote"))
            received = await host.call()
            drain = asyncio.create_task(sidecar.app.drain())
            host.answer(received, "in time")
            assert (await sent).results[0].content == "in time"
            await drain
            stop = asyncio.create_task(sidecar.app.stop())
            assert (await host.message()).WhichOneof("message") == "draining"
            host.half_close()
            assert (await host.end())["code"] == "OK"
            await stop

    async def test_a_sidecar_that_drains_takes_no_hosts(self, start_sidecar: StartServing) -> None:
        sidecar = await start_sidecar()
        sidecar.app.engine.refuse_batches()
        async with RawHost(sidecar.address, offered("remote")) as host:
            end = await host.end()
        assert (end["code"], end["reason"]) == ("UNAVAILABLE", "DRAINING")
