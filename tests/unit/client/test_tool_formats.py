import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecall import ToolNames, to_chat_completions_tools, to_responses_tools
from sidecall.v1.tool_pb2 import Tool

ACCEPTED = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# Few characters, so that names collide after mapping.
NAMES = st.lists(st.text(alphabet="ab_./é-", max_size=80), unique=True, max_size=12)


@given(NAMES, st.randoms(use_true_random=False))
def test_names_go_there_and_back(names: list[str], shuffler: random.Random) -> None:
    mapping = ToolNames(names)
    mapped = [mapping.to_provider(name) for name in names]
    assert all(ACCEPTED.fullmatch(name) for name in mapped)
    assert len(set(mapped)) == len(names)
    assert [mapping.to_tool(name) for name in mapped] == names
    for name in names:
        if ACCEPTED.fullmatch(name):
            assert mapping.to_provider(name) == name
    shuffled = list(names)
    shuffler.shuffle(shuffled)
    assert [ToolNames(shuffled).to_provider(name) for name in names] == mapped


def test_refused_characters_become_underscores() -> None:
    assert ToolNames(["weather.get"]).to_provider("weather.get") == "weather_get"


def test_a_collision_is_told_apart_by_a_hash() -> None:
    mapping = ToolNames(["a.b", "a/b", "a_b"])
    assert mapping.to_provider("a_b") == "a_b"
    assert mapping.to_provider("a.b") == "a_b_2e7336dc"
    assert mapping.to_provider("a/b") == "a_b_c14cddc0"


def test_a_name_that_already_looks_hashed_stays_unique() -> None:
    names = ["a.b", "a/b", "a_b_2e7336dc"]
    assert len({ToolNames(names).to_provider(name) for name in names}) == 3


def test_a_long_name_is_cut_and_hashed() -> None:
    mapped = ToolNames(["x" * 100]).to_provider("x" * 100)
    assert len(mapped) == 64
    assert mapped.startswith("x" * 55 + "_")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("weather_get", "weather.get"),
        ("weather.get", "weather.get"),
        ("functions.weather_get", "weather.get"),
        ("functions.weather.get", "weather.get"),
        ("functions.nobody", "functions.nobody"),
        ("nobody", "nobody"),
    ],
)
def test_what_a_model_writes_is_understood(written: str, meant: str) -> None:
    assert ToolNames(["weather.get"]).to_tool(written) == meant


def test_the_formats_of_both_apis() -> None:
    schema = {"$schema": "x", "type": "object", "properties": {"city": {"type": "string"}}}
    tools = [Tool(name="a.b", description="Does it.", input_schema=json.dumps(schema))]
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    function = {"name": "a_b", "description": "Does it.", "parameters": parameters}
    assert to_chat_completions_tools(tools) == [{"type": "function", "function": function}]
    assert to_responses_tools(tools) == [{"type": "function", "strict": False, **function}]


def test_a_tool_without_a_schema_takes_nothing() -> None:
    (tool,) = to_responses_tools([Tool(name="t")])
    assert tool["parameters"] == {"type": "object", "properties": {}}
