import math
from typing import Any

import pytest

from sidecall_server.config.yaml_nodes import NotYamlError, Place, read_yaml


def plain(text: str) -> Any:
    node, mistakes = read_yaml(text)
    assert mistakes == []
    assert node is not None
    return node.plain()


def refusal(text: str) -> tuple[Place, str]:
    with pytest.raises(NotYamlError) as error:
        read_yaml(text)
    return error.value.mistake


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x", "x"),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("'12'", "12"),
        ('"a\\tb"', "a\tb"),
        ("1.5e3", 1500.0),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("on", "on"),
        ("no", "no"),
        ("1:30", "1:30"),
        ("30/s", "30/s"),
        ("2026-11-22", "2026-11-22"),
        ("[a, {b: 1}]", ["a", {"b": 1}]),
        ("{on: 1, 2: x, null: y}", {"on": 1, "2": "x", "null": "y"}),
        ("a: |\n  two\n  lines\n", {"a": "two\nlines\n"}),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert plain(text) == value
    assert type(plain(text)) is type(value)


def test_not_a_number() -> None:
    assert math.isnan(plain(".nan"))


def test_an_empty_document_holds_nothing() -> None:
    assert read_yaml("# only a comment\n") == (None, [])


def test_values_and_keys_know_their_places() -> None:
    node, _ = read_yaml("a:\n  b: [1,\n      2]\n")
    assert node is not None
    inner = node.value["a"]
    assert node.keys["a"] == (1, 1)
    assert inner.keys["b"] == (2, 3)
    assert inner.value["b"].value[1].place == (3, 7)
    assert node.place_at(("a", "b")) == (2, 6)
    assert node.place_at(("a", "b"), of_key=True) == (2, 3)
    assert node.place_at(("a", "missing")) == inner.place


def test_aliases_and_merges() -> None:
    text = "a: &x {n: 1, m: 2}\nb: *x\nc: {<<: *x, m: 3}\nd: {<<: [{n: 7}, *x]}\n'<<': quoted\n"
    assert plain(text) == {
        "a": {"n": 1, "m": 2},
        "b": {"n": 1, "m": 2},
        "c": {"n": 1, "m": 3},
        "d": {"n": 7, "m": 2},
        "<<": "quoted",
    }


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", (3, 1), "a: stands twice, first in line 1"),
        ("a: !!python/name:os.system x", (1, 4), "the tag tag:yaml.org,2002:python/name:os.system"),
        ("a: !own {b: 1}", (1, 4), "the tag !own is not allowed"),
        ("<<: 3", (1, 1), "<<: takes mappings, not 3"),
    ],
)
def test_mistakes_do_not_end_the_reading(text: str, place: Place, message: str) -> None:
    node, mistakes = read_yaml(text)
    ((found, said),) = mistakes
    assert node is not None
    assert found == place
    assert said.startswith(message)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: [1\nb: 2\n", (2, 2), "while parsing a flow sequence"),
        ("a: 1\n\tb: 2\n", (2, 1), "while scanning for the next token"),
        ("a: *x", (1, 4), "there is no anchor &x before this alias"),
        ("a: &x [*x]", (1, 8), "there is no anchor &x"),
        ("a: 1\n--- \nb: 1", (2, 1), "a second document"),
        ("[1]: 2", (1, 1), "a key must be text"),
        ("a: 1\nb: \x01", (2, 4), "the character '\\x01' is not allowed"),
        ("a: " + "1" * 1001, (1, 4), "a number is too long"),
        ('a: 1\nb: "x\\UFFFFFFFF"', (2, 8), "a number in an escape or a version is too large"),
        ('a: "\\U00110000"', (1, 7), "a number in an escape or a version is too large"),
        (f"%YAML 1.{'1' * 5000}\n--- a", (1, 9), "a number in an escape or a version is too"),
        ('a: 1\nb: "x\\0"', (2, 4), "the character '\\x00' is not allowed"),
        ('"\\ud800": 1', (1, 1), "the character '\\ud800' is not allowed"),
        ("[" * 100_000, (1, 65), "nested more than 64 deep"),
    ],
)
def test_what_cannot_be_read(text: str, place: Place, message: str) -> None:
    found, said = refusal(text)
    assert said.startswith(message)
    assert found == place


@pytest.mark.parametrize("alias", ["[*{0}, *{0}, *{0}, *{0}]", "{{a: *{0}, b: *{0}, c: *{0}}}"])
def test_aliases_cannot_grow_without_bound(alias: str) -> None:
    lines = ["x0: &x0 [1, 2, 3, 4]"]
    lines += [f"x{n}: &x{n} {alias.format(f'x{n - 1}')}" for n in range(1, 40)]
    assert "more than 100000 values" in refusal("\n".join(lines))[1]


def test_merges_cannot_grow_without_bound() -> None:
    lines = ["x0: &x0 {a: [1, 2, 3]}"]
    lines += [f"x{n}: &x{n} {{<<: [*x{n - 1}, *x{n - 1}, *x{n - 1}]}}" for n in range(1, 40)]
    assert "more than 100000 values" in refusal("\n".join(lines))[1]
