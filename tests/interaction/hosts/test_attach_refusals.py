"""Which hosts may attach: names, what is malformed, and how many."""

from pathlib import Path

import grpc
import pytest
from tests.interaction.conftest import StartServing
from tests.support.batches import NOT_STARTED, call, check_failure
from tests.support.raw_host import RawHost, listed, offered
from tests.support.serving import Serving

from sidecall.v1 import tool_host_pb2, tool_pb2


@pytest.fixture
def configured(folder: Path) -> str:
    path = folder / "sidecall.yaml"
    path.write_text("tools:\n- host: {name: billing, tools: [refund]}\n")
    return str(path)


class TestNames:
    async def test_a_name_of_the_sidecars_own_tools_is_refused(self, sidecar: Serving) -> None:
        async with RawHost(sidecar.address, offered("fresh"), offered("echo")) as host:
            end = await host.end()
        assert (end["code"], end["reason"]) == ("ALREADY_EXISTS", "TOOL_NAME_TAKEN")
        assert "'echo'" in end["details"]
        assert "application 'a test'" in end["details"]
        assert "tools.py" in end["details"]
        assert "fresh" not in await listed(sidecar)

    async def test_the_description_of_the_last_host_is_in_force(self, sidecar: Serving) -> None:
        newer = offered("remote")
        newer.description = "Better than before."
        async with RawHost(sidecar.address, offered("remote")) as one:
            await one.attached()
            async with RawHost(sidecar.address, newer) as other:
                await other.attached()
                assert (await listed(sidecar))["remote"].description == "Better than before."

    async def test_an_expected_tool_is_known_before_its_application(
        self, start_sidecar: StartServing, configured: str
    ) -> None:
        sidecar = await start_sidecar(config=configured)
        tool = (await listed(sidecar))["refund"]
        assert tool.health == tool_pb2.TOOL_HEALTH_UNAVAILABLE
        assert "'billing'" in tool.description
        (result,) = await sidecar.run(call("refund"))
        check_failure(result, "HOST_DETACHED", grpc.StatusCode.UNAVAILABLE, NOT_STARTED)
        async with RawHost(sidecar.address, offered("refund")) as host:
            await host.attached()
            assert (await listed(sidecar))["refund"].health == tool_pb2.TOOL_HEALTH_AVAILABLE


class TestProtocol:
    @pytest.mark.parametrize(
        ("message", "said"),
        [
            ({"heartbeat": tool_host_pb2.HostHeartbeat()}, "the first message must hold"),
            ({"attach": tool_host_pb2.HostAttach()}, "tools: is empty"),
            (
                {"attach": tool_host_pb2.HostAttach(tools=[offered("a"), offered("a")])},
                "'a' stands twice",
            ),
            (
                {"attach": tool_host_pb2.HostAttach(tools=[offered("a b")])},
                "not a name for a tool",
            ),
            (
                {"attach": tool_host_pb2.HostAttach(tools=[offered("a", input_schema="{")])},
                "input_schema: is not JSON",
            ),
            (
                {
                    "attach": tool_host_pb2.HostAttach(
                        tools=[offered("a", input_schema='{"type": "object", "required": 1}')]
                    )
                },
                "not a valid JSON Schema",
            ),
            (
                {"attach": tool_host_pb2.HostAttach(tools=[offered("a")], max_concurrency=-1)},
                "max_concurrency",
            ),
            (
                {"attach": tool_host_pb2.HostAttach(tools=[offered("a")], host_name="x" * 300)},
                "host_name",
            ),
        ],
    )
    async def test_what_is_malformed_is_refused(
        self, sidecar: Serving, message: dict[str, object], said: str
    ) -> None:
        host = RawHost(sidecar.address)
        host.open(tool_host_pb2.AttachRequest(**message))  # type: ignore[arg-type]  # one each
        end = await host.end()
        await host.__aexit__()
        assert (end["code"], end["reason"]) == ("INVALID_ARGUMENT", "REQUEST_INVALID")
        assert said in end["details"]
        assert "a" not in await listed(sidecar)

    @pytest.mark.parametrize(
        "message",
        [
            {"attach": tool_host_pb2.HostAttach(tools=[offered("b")])},
            {"result": tool_host_pb2.HostResult(attempt_id=99)},
            {},
        ],
    )
    async def test_a_host_that_breaks_the_protocol_is_sent_away(
        self, sidecar: Serving, message: dict[str, object]
    ) -> None:
        async with RawHost(sidecar.address, offered("remote")) as host:
            await host.attached()
            host.send(**message)
            end = await host.end()
        assert (end["code"], end["reason"]) == ("INVALID_ARGUMENT", "REQUEST_INVALID")

    async def test_there_may_be_too_many_hosts(self, start_sidecar: StartServing) -> None:
        sidecar = await start_sidecar(max_hosts=1)
        async with RawHost(sidecar.address, offered("remote")) as one:
            await one.attached()
            async with RawHost(sidecar.address, offered("other")) as two:
                end = await two.end()
        assert (end["code"], end["reason"]) == ("RESOURCE_EXHAUSTED", "TOO_MANY_HOSTS")
