"""Arguments that a model gets wrong: each costs only its own call."""

import json
from typing import Any

import grpc
import pytest
from tests.support.batches import NOT_STARTED, call, check_failure, violations
from tests.support.serving import Serving

GOOD = {"city": "Oslo", "count": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"text": "a"', "not valid JSON"),
        ("{'text': 'a'}", "not valid JSON"),
        ("not json", "not valid JSON"),
        ('{"text": NaN}', "not valid JSON"),
        ('{"text": "a"} trailing', "not valid JSON"),
        ('{"text": "\\ud8"}', "not valid JSON"),
        ('["text"]', "an array"),
        ('"text"', "a string"),
        ("7", "a number"),
        ("true", "a boolean"),
        ("null", "null"),
        ('{"value": ' + "[" * 200 + "]" * 200 + "}", "at most 128 levels"),
        ('{"value": ' + "[" * 900 + "]" * 900 + "}", "at most 128 levels"),
        ('{"value": ' + "[" * 100_000 + "]" * 100_000 + "}", ""),
        ('{"value": 1e999}', "double"),
    ],
)
async def test_text_that_is_no_json_object(sidecar: Serving, text: str, said: str) -> None:
    bad, good = await sidecar.run(call("value", text, id="a"), call("echo", {"text": "b"}, id="b"))
    check_failure(bad, "ARGUMENTS_INVALID", grpc.StatusCode.INVALID_ARGUMENT, NOT_STARTED)
    assert said in bad.content
    assert bad.attempts == 0
    assert good.content == "b"


@pytest.mark.parametrize("text", ["", "  ", "{}", "\n{ }\t"])
async def test_empty_arguments_mean_an_empty_object(sidecar: Serving, text: str) -> None:
    (result,) = await sidecar.run(call("nothing", text))
    assert result.content == "done"


@pytest.mark.parametrize(
    ("arguments", "field", "said"),
    [
        ({**GOOD, "city": 7}, "/city", "string"),
        ({**GOOD, "count": "1"}, "/count", "integer"),
        ({**GOOD, "count": 1.5}, "/count", "integer"),
        ({**GOOD, "count": True}, "/count", "integer"),
        ({**GOOD, "count": None}, "/count", "integer"),
        ({**GOOD, "unit": "kelvin"}, "/unit", "celsius"),
        ({"count": 1}, "", "city"),
        ({**GOOD, "ctiy": "Oslo"}, "", "did you mean 'city'?"),
        ({**GOOD, "place": {"latitude": 91}}, "/place", ""),
    ],
)
async def test_arguments_that_do_not_fit(
    sidecar: Serving, arguments: dict[str, Any], field: str, said: str
) -> None:
    bad, good = await sidecar.run(call("strict", arguments), call("strict", GOOD))
    check_failure(bad, "ARGUMENTS_INVALID", grpc.StatusCode.INVALID_ARGUMENT, NOT_STARTED)
    found = violations(bad)
    assert field in found or any(key.startswith(field) for key in found), found
    assert any(said in text for text in found.values()), found
    assert json.loads(good.content)["city"] == "Oslo"


async def test_every_wrong_field_is_named(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("strict", {"city": 1, "count": "x", "unit": "kelvin"}))
    assert set(violations(result)) == {"/city", "/count", "/unit"}
    assert all(name in result.content for name in ("/city", "/count", "/unit"))


async def test_defaults_are_applied(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("strict", GOOD))
    assert json.loads(result.content) == {**GOOD, "unit": "celsius", "place": None}


async def test_an_unknown_tool_is_answered_with_near_names(sidecar: Serving) -> None:
    bad, good = await sidecar.run(call("ecko", {"text": "a"}), call("echo", {"text": "a"}))
    check_failure(bad, "TOOL_NOT_FOUND", grpc.StatusCode.NOT_FOUND, NOT_STARTED)
    assert "'echo'" in bad.content
    assert good.content == "a"


@pytest.mark.parametrize("name", ["", " ", "no such tool", "x" * 10_000, "\U0001f600", "a\x00b"])
async def test_odd_names_of_tools(sidecar: Serving, name: str) -> None:
    (result,) = await sidecar.run(call(name))
    check_failure(result, "TOOL_NOT_FOUND", grpc.StatusCode.NOT_FOUND, NOT_STARTED)


@pytest.mark.parametrize(
    "number",
    [2**53 + 1, -(2**63), 2**64, 10**40, 10**4_000],
    ids=["53 bits", "63 bits", "64 bits", "40 digits", "4000 digits"],
)
async def test_integers_stay_exact(sidecar: Serving, number: int) -> None:
    (result,) = await sidecar.run(call("value", f'{{"value": {number}}}'))
    assert result.content == str(number)


@pytest.mark.parametrize(
    ("written", "content"),
    [
        (r'"caf\u00e9"', "café"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\u0000"', "\x00"),
        ('"\u202eright to left"', "\u202eright to left"),
        ('"\ufeff"', "\ufeff"),
        ('"e\u0301"', "e\u0301"),
        (r'"a\ud800b"', r"a\ud800b"),
        (r'{"deep": ["\udfff"]}', None),
    ],
)
async def test_odd_unicode(sidecar: Serving, written: str, content: str | None) -> None:
    (result,) = await sidecar.run(call("value", f'{{"value": {written}}}'))
    if content is not None:
        assert result.content == content
    else:
        assert json.loads(result.content) == {"deep": [r"\udfff"]}


async def test_a_key_with_a_lone_surrogate(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("echo", r'{"text": "a", "\ud800": 1}'))
    check_failure(result, "ARGUMENTS_INVALID", grpc.StatusCode.INVALID_ARGUMENT, NOT_STARTED)


async def test_a_repeated_key_takes_one_value(sidecar: Serving) -> None:
    (result,) = await sidecar.run(call("echo", '{"text": "a", "text": "b"}'))
    assert result.content == "b"


async def test_nesting_up_to_the_limit_is_taken(sidecar: Serving) -> None:
    nested = "[" * 120 + "]" * 120
    (result,) = await sidecar.run(call("value", f'{{"value": {nested}}}'))
    assert result.content == nested


async def test_empty_and_repeated_ids_cost_nothing(sidecar: Serving) -> None:
    calls = [call("echo", {"text": str(n)}, id=i) for n, i in enumerate(["", "a", "a", "", "b"])]
    results = await sidecar.run(*calls)
    assert [result.content for result in results] == ["0", "1", "2", "3", "4"]


async def test_a_batch_without_calls(sidecar: Serving) -> None:
    assert await sidecar.run() == []
