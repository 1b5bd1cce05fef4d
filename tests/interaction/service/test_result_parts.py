"""Images, files and links in results, and what results may take, over a real channel."""

import json
from pathlib import Path

import grpc
import pytest
from tests.interaction.conftest import StartServing
from tests.support.batches import COMPLETED, NOT_STARTED, batch, call, check_failure, reasons
from tests.support.serving import Serving, stub_of
from tests.support.turns import Turn

from sidecall.v1.execution_pb2 import ToolResult

PART_TOOLS = Path(__file__).parent / "part_tools.py"
CLIENT_BYTES = 4 * 1024 * 1024
CHART = (
    "Sales:\n[image/png, 100 bytes: chart.png]\n"
    '{"total":7}\n[link: https://example.org/sales (source)]'
)


@pytest.fixture
async def parts_sidecar(start_sidecar: StartServing) -> Serving:
    serving: Serving = await start_sidecar(tools=str(PART_TOOLS))
    return serving


def kinds(result: ToolResult) -> list[str | None]:
    return [part.WhichOneof("part") for part in result.parts]


@pytest.mark.parametrize("tool", ["draw", "draw_in_thread", "draw_in_process", "draw_in_pieces"])
async def test_parts_arrive_wherever_the_tool_runs(parts_sidecar: Serving, tool: str) -> None:
    (result,) = await parts_sidecar.run(call(tool, {"size": 100}))
    assert reasons([result]) == ["OK"]
    assert result.content == CHART
    assert kinds(result) == ["text", "blob", "json", "link"]
    text, image, value, link = result.parts
    assert (text.text, value.json) == ("Sales:", '{"total":7}')
    assert (image.blob.media_type, image.blob.name) == ("image/png", "chart.png")
    assert image.blob.data == b"\x89PNG\r\n\x1a\n" + bytes(92)
    assert (link.link.uri, link.link.name) == ("https://example.org/sales", "source")
    assert not result.truncated


async def test_parts_arrive_in_a_stream(parts_sidecar: Serving) -> None:
    async with grpc.aio.insecure_channel(parts_sidecar.address) as channel:
        turn = await Turn(channel).start(max_response_bytes=5_000)
        await turn.call(0, call("draw", {"size": 100}))
        await turn.call(1, call("draw", {"size": 50_000}))
        await turn.call(2, call("numbers_bounded", {"count": 5_000}))
        await turn.seal(3)
        await turn.finish()
    results = turn.results()
    assert kinds(results[0]) == ["text", "blob", "json", "link"]
    assert kinds(results[1]) == ["text", "text", "json", "link"]
    assert results[1].truncated
    assert len(results[2].content) <= 600
    assert json.loads(results[2].content)[-1] == 4_999


async def test_a_hidden_image_says_what_to_do(parts_sidecar: Serving) -> None:
    (result,) = await parts_sidecar.run(call("nest"))
    check_failure(result, "TOOL_FAILED", grpc.StatusCode.UNKNOWN, COMPLETED)
    assert "inside another value" in result.content


async def test_references_read_the_text_of_parts(parts_sidecar: Serving) -> None:
    _, copy, mixed = await parts_sidecar.run(
        call("draw"),
        call("repeat", {"text": "$ref:@1"}),
        call("repeat", {"text": "It says: ${ref:@1}"}),
    )
    assert copy.content == CHART
    assert mixed.content == f"It says: {CHART}"


async def test_images_that_do_not_fit_are_left_out_and_the_rest_stays(
    parts_sidecar: Serving,
) -> None:
    request = batch(
        call("draw", {"size": 3_000_000}),
        call("draw", {"size": 3_900_000}),
        call("draw_in_process", {"size": 100_000}),
        call("numbers", {"count": 300_000}),
    )
    async with grpc.aio.insecure_channel(parts_sidecar.address) as channel:
        response = await stub_of(channel).ExecuteBatch(request)
    assert response.ByteSize() < CLIENT_BYTES
    first, second, third, fourth = response.results
    assert reasons(response.results) == ["OK"] * 4
    assert "left out because it is too large" in second.content
    assert kinds(second) == ["text", "text", "json", "link"]
    assert kinds(third) == ["text", "blob", "json", "link"]
    assert second.truncated
    assert not third.truncated
    assert ("blob" in kinds(first)) == (not first.truncated)
    assert json.loads(fourth.content)["numbers"][0] == 0


async def test_a_bounded_result_is_cut_and_references_read_it_whole(
    parts_sidecar: Serving,
) -> None:
    bounded, sum_of_all, small = await parts_sidecar.run(
        call("numbers_bounded", {"count": 2_000}),
        call("total", {"numbers": "$ref:@1"}),
        call("numbers_bounded", {"count": 3}),
    )
    assert bounded.truncated
    assert len(bounded.content) <= 600
    kept = json.loads(bounded.content)
    assert (kept[0], kept[-1]) == (0, 1_999)
    assert f"... {2_001 - len(kept)} of 2000 items left out" in kept
    assert sum_of_all.content == str(sum(range(2_000)))
    assert (small.content, small.truncated) == ("[0,1,2]", False)


async def test_a_result_that_is_refused_fails_its_dependants(parts_sidecar: Serving) -> None:
    large, dependant, small = await parts_sidecar.run(
        call("numbers_or_nothing", {"count": 2_000}),
        call("total", {"numbers": "$ref:@1"}),
        call("numbers_or_nothing", {"count": 3}),
    )
    check_failure(large, "RESULT_TOO_LARGE", grpc.StatusCode.RESOURCE_EXHAUSTED, COMPLETED)
    assert "ask for less" in large.content
    check_failure(dependant, "DEPENDENCY_FAILED", grpc.StatusCode.FAILED_PRECONDITION, NOT_STARTED)
    assert small.content == "[0,1,2]"


async def test_the_budget_of_a_request_keeps_json_readable(parts_sidecar: Serving) -> None:
    response = await parts_sidecar.stub.ExecuteBatch(
        batch(*[call("numbers", {"count": 5_000})] * 3, max_response_bytes=6_000)
    )
    assert response.ByteSize() <= 6_000
    for result in response.results:
        assert result.truncated
        kept = json.loads(result.content)["numbers"]
        assert (kept[0], kept[-1]) == (0, 4_999)
