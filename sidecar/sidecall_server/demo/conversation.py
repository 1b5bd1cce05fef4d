"""What the scripted model says about the demonstration's tools."""

import json
from typing import Any

from sidecall.scripted import ModelRequest, ScriptedCall, ScriptedTurn

QUESTION = (
    "What are the weather and the time in Tokyo and in Lisbon, and what is new in technology? "
    "And send my friend Ann a postcard that says how warm and how late it is where she lives."
)
"""What the user asks."""

_CHUNK_DELAY_S = 0.01
_INDEPENDENT = (
    ScriptedCall("get_weather", {"location": "Tokyo"}),
    ScriptedCall("get_weather", {"location": "Lisbon"}),
    ScriptedCall("get_time", {"timezone": "Asia/Tokyo"}),
    ScriptedCall("get_time", {"timezone": "Europe/Lisbon"}),
    ScriptedCall("get_news", {"topic": "technology", "count": 2}),
)
_DEPENDENT = (
    ScriptedCall("find_contact", {"name": "Ann"}),
    ScriptedCall("get_weather", {"location": "$ref:@1#/city"}),
    ScriptedCall("get_time", {"timezone": "$ref:@1#/timezone"}),
    ScriptedCall(
        "send_postcard",
        {
            "to": "$ref:@1#/name",
            "text": "Greetings! In ${ref:@2#/location} it is ${ref:@2#/temperature} degrees with "
            "${ref:@2#/condition}, and ${ref:@3#/local_time} on your clock.",
        },
    ),
)


def reply(request: ModelRequest) -> ScriptedTurn:
    """The model's next turn, by how many tool results it has been given."""
    results = [_value(content) for content in request.results()]
    if not results:
        text = "I look up both cities and the news at once."
        return ScriptedTurn(text=text, calls=_INDEPENDENT, delay_s=_CHUNK_DELAY_S)
    if len(results) < len(_INDEPENDENT) + len(_DEPENDENT):
        text = "Now Ann: where she lives, then her weather and time, then the postcard."
        return ScriptedTurn(text=text, calls=_DEPENDENT, delay_s=_CHUNK_DELAY_S)
    return ScriptedTurn(text=_answer(results), delay_s=_CHUNK_DELAY_S)


def _answer(results: list[dict[str, Any]]) -> str:
    tokyo, lisbon, tokyo_time, lisbon_time, news, ann, *_, postcard = results
    headlines = " and ".join(f'"{headline}"' for headline in news.get("headlines", ()))
    return (
        f"In Tokyo it is {_get(tokyo_time, 'local_time')}, {_get(tokyo, 'temperature')} degrees "
        f"with {_get(tokyo, 'condition')}; in Lisbon {_get(lisbon_time, 'local_time')}, "
        f"{_get(lisbon, 'temperature')} degrees and {_get(lisbon, 'condition')}. "
        f"In technology: {headlines or 'no news'}. "
        f"{_get(ann, 'name')}'s postcard reads: {_get(postcard, 'text')}"
    )


def _value(content: str) -> dict[str, Any]:
    """A result's object; none where a tool failed and said so in words."""
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _get(result: dict[str, Any], key: str) -> Any:
    return result.get(key, "unknown")
