"""What the reference did in each case: the expectation for all other languages."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.conformance.harness.cases import Case, Way, recording_of
from tests.conformance.harness.matching import differences
from tests.conformance.harness.outcomes import Outcome
from tests.conformance.harness.records import TOOLS

from sidecall import AsyncClient, ToolNames, to_chat_completions_tools, to_responses_tools

Json = dict[str, Any]

_CLOCK_S = 1
"""By how much two processes may differ about the time that is left."""


def compare_recorded(
    case: Case,
    way: Way,
    actual: Mapping[str, Any],
    simplify: Callable[[Any], Any] | None = None,
) -> Iterable[str]:
    """What differs from the recording, which has one entry for an API or one for each way.

    Args:
        case: The case.
        way: The way in which it was run.
        actual: What happened.
        simplify: Takes from both what depends on the model server.
    """
    for part, value in actual.items():
        entries = case.recorded.get(part, {})
        expected = entries.get(way.name, entries.get(way.api))
        if expected is None:
            yield f"{part}: nothing is recorded for {way.name}"
        elif simplify is None:
            yield from differences(expected, value, part)
        else:
            yield from differences(simplify(expected), simplify(value), part)


def write_recording(case: Case, outcomes: Iterable[Outcome]) -> None:
    """Writes what came of a case as what is expected of it from now on."""
    if case.kind == "host":
        return
    by_way = {outcome.way: outcome.recorded for outcome in outcomes}
    parts = {part for recorded in by_way.values() for part in recorded}
    written = {part: _merged(case, part, by_way) for part in sorted(parts)}
    text = json.dumps(written, indent=1, ensure_ascii=False)
    recording_of(case.path).write_text(f"{text}\n")


async def write_tools(endpoint: str) -> None:
    """Writes the definitions of all tools as the two APIs take them."""
    async with AsyncClient(endpoint) as client:
        tools = await client.list_tools()
    names = ToolNames(tool.name for tool in tools)
    written = {
        "chat_completions": {
            definition["function"]["name"]: definition
            for definition in to_chat_completions_tools(tools, names)
        },
        "responses": {
            definition["name"]: definition for definition in to_responses_tools(tools, names)
        },
    }
    TOOLS.write_text(f"{json.dumps(written, indent=1, ensure_ascii=False)}\n")


def _merged(case: Case, part: str, by_way: Mapping[str, Json]) -> Json:
    """One entry for an API where all of its ways are alike, else one for each way."""
    entries: Json = {}
    for way in case.ways:
        siblings = [by_way[other.name][part] for other in case.ways if other.api == way.api]
        alike = way.api and all(sibling == siblings[0] for sibling in siblings)
        entries[way.api if alike else way.name] = _bounded(by_way[way.name][part])
    return entries


def _bounded(value: Any) -> Any:
    """A copy with bounds in place of the times that are left."""
    if isinstance(value, dict):
        return {
            key: {"$at_most": round(item) + _CLOCK_S} if key == "timeout_s" else _bounded(item)
            for key, item in value.items()
        }
    return [_bounded(item) for item in value] if isinstance(value, list) else value
