"""Arguments against a tool's schema, with defaults applied."""

import difflib
from types import SimpleNamespace
from typing import Any

import pytest

from sidecall_server.core.outcome import Code, ExecutionState, Failure, Reason
from sidecall_server.policy.arguments import ArgumentsPolicy

CITY: dict[str, object] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1},
        "unit": {"enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14, "default": 3},
        "options": {
            "type": "object",
            "properties": {
                "verbose": {"type": "boolean", "default": False},
                "a/b~c": {"type": "integer"},
            },
        },
        "tags": {"type": "array", "items": {"type": "string"}, "default": []},
    },
    "required": ["city"],
    "additionalProperties": False,
}


def check(arguments: dict[str, Any], schema: dict[str, object] = CITY) -> Failure | None:
    return ArgumentsPolicy(schema).check(arguments)


def violations(arguments: dict[str, Any], schema: dict[str, object] = CITY) -> dict[str, str]:
    failure = check(arguments, schema)
    assert failure is not None
    assert (failure.reason, failure.status_code) == (
        Reason.ARGUMENTS_INVALID,
        Code.INVALID_ARGUMENT,
    )
    assert failure.state is ExecutionState.NOT_STARTED
    for violation in failure.violations:
        assert f"- {violation.field or 'arguments'}: {violation.message}" in failure.message
    return {violation.field: violation.message for violation in failure.violations}


def test_defaults_are_applied_in_place_and_inside_objects() -> None:
    arguments: dict[str, Any] = {"city": "Rome", "options": {}}

    assert check(arguments) is None
    assert arguments == {
        "city": "Rome",
        "unit": "celsius",
        "days": 3,
        "options": {"verbose": False},
        "tags": [],
    }


def test_what_is_given_is_kept() -> None:
    arguments: dict[str, Any] = {"city": "Rome", "unit": "fahrenheit", "tags": ["x"]}

    assert check(arguments) is None
    assert arguments["unit"] == "fahrenheit"
    assert arguments["tags"] == ["x"]
    assert "options" not in arguments


def test_a_call_cannot_change_the_next_calls_defaults() -> None:
    policy = ArgumentsPolicy(CITY)
    first: dict[str, Any] = {"city": "Rome"}
    policy.check(first)
    first["tags"].append("spoiled")
    second: dict[str, Any] = {"city": "Rome"}
    policy.check(second)

    assert second["tags"] == []


def test_a_null_is_not_an_absent_value() -> None:
    assert set(violations({"city": "Rome", "unit": None})) == {"/unit"}


def test_defaults_behind_local_references_are_applied() -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/a~1b"}, "self": {"$ref": "#"}},
        "$defs": {"a/b": {"type": "object", "properties": {"x": {"default": 1}}}},
    }
    arguments: dict[str, Any] = {"a": {}, "self": {"a": {}}}

    assert check(arguments, schema) is None
    assert arguments["a"] == {"x": 1}


def test_a_schema_that_refers_to_itself_is_no_endless_loop() -> None:
    schema: dict[str, object] = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"$ref": "#/$defs/node"}, "n": {"default": 0}},
            }
        },
    }
    arguments: dict[str, Any] = {"next": {"next": {}}}

    assert check(arguments, schema) is None
    assert arguments["n"] == 0


@pytest.mark.parametrize(
    ("arguments", "field", "message"),
    [
        ({}, "", '"city" is a required property'),
        ({"city": 5}, "/city", '5 is not of type "string"'),
        ({"city": "Rome", "days": "3"}, "/days", '"3" is not of type "integer"'),
        ({"city": "Rome", "days": 15}, "/days", "maximum of 14"),
        ({"city": "Rome", "unit": "kelvin"}, "/unit", 'is not one of "celsius" or "fahrenheit"'),
        ({"city": "Rome", "tags": ["a", 1]}, "/tags/1", '1 is not of type "string"'),
        ({"city": "Rome", "options": {"a/b~c": ""}}, "/options/a~1b~0c", "is not of type"),
        ({"city": "Rome", "options": []}, "/options", 'is not of type "object"'),
    ],
)
def test_a_violation_says_where_and_what(
    arguments: dict[str, Any], field: str, message: str
) -> None:
    found = violations(arguments)

    assert list(found) == [field]
    assert message in found[field]


def test_an_unknown_field_is_told_its_near_name_and_the_known_ones() -> None:
    (message,) = violations({"city": "Rome", "Unit": "celsius"}).values()

    assert "did you mean 'unit'?" in message
    assert "known fields: city, unit, days, options, tags" in message


def test_nothing_is_coerced() -> None:
    assert violations({"city": "Rome", "days": True})
    assert violations({"city": "Rome", "days": 3.5})
    assert violations({"city": ["Rome"]})


def test_all_violations_are_listed_up_to_a_bound() -> None:
    schema: dict[str, object] = {"type": "object", "additionalProperties": {"type": "string"}}
    failure = check({f"f{number}": number for number in range(50)}, schema)

    assert failure is not None
    assert len(failure.violations) == 20
    assert failure.message.endswith("\n- and more")


def test_errors_of_large_arguments_are_not_all_made(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = ArgumentsPolicy(CITY)

    def forbidden(_: object) -> None:
        raise AssertionError("the validator would make all errors")

    validator = policy._validator
    fake = SimpleNamespace(validate=validator.validate, iter_errors=forbidden)
    monkeypatch.setattr(policy, "_validator", fake)
    failure = policy.check({"city": "Rome", "tags": list(range(100_000))})

    assert failure is not None
    assert [violation.field for violation in failure.violations] == ["/tags/0"]


def test_many_unexpected_fields_are_looked_at_and_told_in_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at: list[str] = []

    def close_matches(name: str, names: list[str], n: int) -> list[str]:
        looked_at.append(name)
        return names[:n]

    monkeypatch.setattr(difflib, "get_close_matches", close_matches)
    for count in (100, 100_000):
        looked_at.clear()
        failure = check({f"unexpected_{number}": 1 for number in range(count)} | {"city": "Rome"})
        assert failure is not None
        assert 1 <= len(looked_at) <= 20
        assert len(failure.message) < 4_200
        assert "known fields: city" in failure.message


def test_what_is_said_is_bounded_whatever_the_names_are_like() -> None:
    names = [f"{number:03}" + "n" * 5_000 for number in range(200)]
    schema: dict[str, object] = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "additionalProperties": False,
    }
    for arguments in (dict.fromkeys(names, 1), {"x" * 10**6: 1}, {name + "x": 1 for name in names}):
        failure = check(arguments, schema)
        assert failure is not None
        assert len(failure.message) <= 4_096
        for violation in failure.violations:
            assert len(violation.field) + len(violation.message) < 1_300


def test_a_long_value_does_not_hide_what_was_expected() -> None:
    (message,) = violations({"city": "Rome", "unit": "x" * 100_000}).values()

    assert len(message) < 300
    assert '"fahrenheit"' in message


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_lone_surrogates_are_validated_as_one_character(text: str) -> None:
    arguments: dict[str, Any] = {"city": text}

    assert check(arguments) is None
    assert arguments["city"] == text
    for failing in ({"city": "Rome", "unit": text}, {"city": "Rome", text: 1}):
        for field, message in violations(failing).items():
            assert (field + message).encode()


@pytest.mark.parametrize("number", [2**63, 2**64 + 1, -(10**30), 10**400, 10**4200])
def test_integers_beyond_64_bits_are_integers(number: int) -> None:
    assert check({"n": number}, {"properties": {"n": {"type": "integer"}}}) is None
    assert violations({"city": "Rome", "days": number})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "objekt"},
        {"type": "object", "properties": {"a": {"minimum": "x"}}},
        {"type": "object", "properties": []},
        {"$ref": "#/$defs/missing"},
    ],
)
def test_a_schema_that_is_none_is_refused(schema: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a valid JSON Schema"):
        ArgumentsPolicy(schema)


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:9/x.json", "file:" + "///etc/hosts", "other.json"]
)
def test_a_schema_cannot_make_the_sidecar_read_anything(uri: str) -> None:
    schema = {"type": "object", "properties": {"x": {"$ref": uri}}}
    with pytest.raises(ValueError, match="not a valid JSON Schema"):
        ArgumentsPolicy(schema)
