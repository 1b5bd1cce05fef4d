"""What a host offers, and how it tells the sidecar about it."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tests.support.fake_tool_host_service import FakeToolHostService

from sidecall import Lifespan, Tool, ToolDefinitionError, ToolHost, ToolLoadError, lifespan, tool
from sidecall._host_tools import load, messages_of
from sidecall._policy import PolicyOptions
from sidecall.v1 import tool_pb2
from sidecall_server.backends.tool_specs import tool_spec
from sidecall_server.transport.host_messages import hosted_tools


def described(function: Any, **policy: Any) -> tool_pb2.Tool:
    made = function if isinstance(function, Tool) else tool(function, **policy)
    (message,) = messages_of(load([made], None))
    return message


def f(account: str, count: int = 5) -> str:
    """Does it.

    Args:
        account: Whose.
        count: How often.
    """
    return account * count


POLICIES: list[PolicyOptions] = [
    {},
    {"effects": "read_only", "cache_ttl": "1m"},
    {"effects": "idempotent", "retry": 4},
    {"max_concurrency": 3, "max_queue": 7, "timeout": "250ms", "queue_timeout": 1.5},
    {"rate": "10/s"},
    {"rate": {"limit": "100/m", "burst": 3}},
    {"limits": ["github", "db"], "max_result_bytes": 1000},
    {"lane": "account:{account}", "approval": "required"},
]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_the_sidecar_knows_what_is_declared(policy: PolicyOptions) -> None:
    declared = tool(f, **policy)
    (hosted,) = hosted_tools([described(declared)], "a test")
    assert tool_spec(hosted, hosted.policy) == tool_spec(declared, declared.policy)


def test_schemas_and_descriptions_are_passed_on() -> None:
    made = Tool(
        name="made",
        description="Grüße \ud800.",
        input_schema={"type": "object", "title": "ü"},
        output_schema={"type": "string"},
        call=lambda: "x",
    )
    message = described(made)
    assert message.description == "Grüße \\ud800."
    assert message.input_schema == '{"type":"object","title":"\\u00fc"}'
    assert message.output_schema == '{"type":"string"}'
    assert described(f).output_schema == ""


@pytest.mark.parametrize(
    ("policy", "key"),
    [
        ({"isolation": "process"}, "isolation"),
        ({"references": False}, "references"),
        ({"max_queue": 0}, "max_queue"),
        ({"breaker": True}, "breaker"),
        ({"retry": {"attempts": 2, "backoff": "1s"}}, "retry"),
        ({"lane": {"key": "{account}", "on_failure": "skip_rest"}}, "lane"),
        ({"large_result": "refuse"}, "large_result"),
        ({"effects": "read_only", "coalesce": True, "share": "all"}, "coalesce, share"),
        ({"effects": "read_only", "context_keys": ["user"]}, "context_keys"),
    ],
)
def test_what_cannot_be_passed_on_is_refused(policy: dict[str, Any], key: str) -> None:
    with pytest.raises(ToolDefinitionError, match=f"cannot pass on this {key}; write it in"):
        described(f, **policy)


def test_a_lane_needs_its_argument() -> None:
    with pytest.raises(ToolDefinitionError, match="there is no argument 'user'"):
        described(f, lane="{user}")


def test_names_are_unique() -> None:
    one, other = tool(f), tool(f)
    with pytest.raises(ToolLoadError, match="two tools are named 'f'"):
        ToolHost([one, other])
    (source,) = load([one, one], None)
    assert source.tools == (one,)


@pytest.mark.parametrize("tools", [[], ()])
def test_a_host_without_tools_is_none(tools: Any) -> None:
    with pytest.raises(ValueError, match="at least one tool"):
        ToolHost(tools)


@pytest.mark.parametrize("tools", [[f], f, [3]])
def test_a_plain_function_is_no_tool(tools: Any) -> None:
    with pytest.raises(ToolDefinitionError, match="mark the function with @tool"):
        ToolHost(tools)


def test_an_annotation_that_names_nothing_is_told_at_once() -> None:
    def g(x: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821  the case
        """Cannot be described."""

    with pytest.raises(ToolDefinitionError, match="Nowhere"):
        ToolHost([tool(g)])


FILE = """
from sidecall import ToolContext, lifespan, tool

@lifespan
def resources():
    yield "of the file"

@tool
def from_file(context: ToolContext) -> str:
    return context.state
"""


async def test_files_modules_and_tools_together(
    service: FakeToolHostService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "hosted.py"
    path.write_text(FILE)
    module = types.ModuleType("made_here")

    @tool
    def from_module() -> str:
        return "module"

    @tool
    def given() -> str:
        return "given"

    vars(module)["from_module"] = from_module
    async with ToolHost([given, path, module], endpoint=service.endpoint):
        attachment = await service.attachment()
        names = [item.name for item in attachment.attach.tools]
        assert names == ["given", "from_file", "from_module"]
        texts = [(await attachment.run(name)).text for name in names]
    assert texts == ["given", "of the file", "module"]


def test_a_file_that_cannot_be_loaded_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ToolLoadError, match="no such file"):
        ToolHost(str(tmp_path / "none.py"))
    with pytest.raises(ToolLoadError, match="no such module"):
        ToolHost("not_there_at_all.tools")
    with pytest.raises(ToolLoadError, match="no tools in it"):
        ToolHost(types.ModuleType("empty"))


def test_a_lifespan_alone_is_not_enough() -> None:
    nothing: Lifespan = lifespan(lambda: iter(()))
    with pytest.raises(ValueError, match="at least one tool"):
        ToolHost([], lifespan=nothing)
