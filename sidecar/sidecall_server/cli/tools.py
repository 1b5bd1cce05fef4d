"""`sidecall tools`."""

import json
from collections.abc import Sequence
from typing import Any

import click
from google.protobuf.duration_pb2 import Duration

from sidecall import to_chat_completions_tools, to_responses_tools
from sidecall._requests import ListedTools
from sidecall.v1.tool_pb2 import Effects, Rate, Tool, ToolHealth
from sidecall_server.cli.connection import connect, endpoint_options, run
from sidecall_server.cli.output import console, plain_table, printable, write_raw

_FORMATS = {"openai-chat": to_chat_completions_tools, "openai-responses": to_responses_tools}


@click.command("tools")
@endpoint_options
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print everything about them as JSON: an object with their revision and the tools.",
)
@click.option(
    "--format",
    "provider",
    type=click.Choice(list(_FORMATS)),
    help="Print them as JSON in the format of a model provider.",
)
def command(
    endpoint: str | None, tools: tuple[str, ...], as_json: bool, provider: str | None
) -> None:
    """List the tools of a sidecar.

    Exit code 69 where no sidecar answers.
    """
    listed = run(_list(endpoint, tools))
    if provider is not None:
        write_raw(json.dumps(_FORMATS[provider](listed), indent=2, ensure_ascii=False))
    elif as_json:
        facts = {"revision": listed.revision, "tools": [_facts(tool) for tool in listed]}
        write_raw(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        _print_table(listed)


async def _list(endpoint: str | None, tools: tuple[str, ...]) -> ListedTools:
    async with connect(endpoint, tools) as client:
        return await client.list_tools()


def _print_table(tools: Sequence[Tool]) -> None:
    rows = [
        (
            printable(tool.name),
            _signature(tool),
            _effects(tool),
            printable(tool.description.partition("\n")[0]),
        )
        for tool in tools
    ]
    console().print(plain_table(("tool", "arguments", "effects", "what it does"), rows))


def _signature(tool: Tool) -> str:
    schema = json.loads(tool.input_schema)
    required = set(schema.get("required", ()))
    return printable(
        ", ".join(
            name if name in required else f"[{name}]" for name in schema.get("properties", {})
        )
    )


def _effects(tool: Tool) -> str:
    return Effects.Name(tool.effects).removeprefix("EFFECTS_").lower()


def _facts(tool: Tool) -> dict[str, Any]:
    limits = tool.limits
    return {
        "name": tool.name,
        "description": tool.description,
        "effects": _effects(tool),
        "input_schema": json.loads(tool.input_schema),
        "output_schema": json.loads(tool.output_schema) if tool.output_schema else None,
        "health": ToolHealth.Name(tool.health).removeprefix("TOOL_HEALTH_").lower(),
        "requires_approval": tool.requires_approval,
        "lane": tool.lane or None,
        "limits": {
            "max_concurrency": limits.max_concurrency,
            "max_queue": limits.max_queue,
            "timeout_s": _seconds(limits.timeout),
            "queue_timeout_s": _seconds(limits.queue_timeout),
            "rate": _rate(limits.rate) if limits.HasField("rate") else None,
            "groups": list(limits.groups),
            "max_attempts": limits.max_attempts,
            "cache_ttl_s": _seconds(limits.cache_ttl) if limits.HasField("cache_ttl") else None,
            "max_result_bytes": limits.max_result_bytes or None,
        },
    }


def _rate(rate: Rate) -> dict[str, Any]:
    return {"count": rate.count, "period_s": _seconds(rate.period), "burst": rate.burst}


def _seconds(duration: Duration) -> float:
    return duration.ToNanoseconds() / 1e9
