"""JSON Pointers (RFC 6901) into results."""

from typing import Any

import pytest

from sidecall_server.core.references import UnresolvedError, follow

RFC_DOCUMENT = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
    "~1": 9,
}


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("", RFC_DOCUMENT),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
        ("/~01", 9),
    ],
)
def test_the_examples_of_the_rfc(pointer: str, expected: object) -> None:
    assert follow(RFC_DOCUMENT, pointer) == expected


@pytest.mark.parametrize("token", ["2", "-", "-1", "01", "+1", "1.0", "x", "", "9" * 30, "\u0661"])
def test_only_the_index_of_an_item_names_an_item(token: str) -> None:
    with pytest.raises(UnresolvedError, match="the array has 2 items"):
        follow([1, 2], f"/{token}")


@pytest.mark.parametrize(
    "text", ['{"a": [1, {"b": 2}]}', '  \n{"a": [1, {"b": 2}]}', '{"a": "[1, {\\"b\\": 2}]"}']
)
def test_a_path_looks_inside_json_text(text: str) -> None:
    assert follow(text, "/a/1/b") == 2
    assert follow({"outer": text}, "/outer/a/0") == 1


def test_without_a_path_json_text_stays_text() -> None:
    assert follow('{"a": 1}', "") == '{"a": 1}'
    assert follow({"a": "[1]"}, "/a") == "[1]"


@pytest.mark.parametrize("text", ["plain", "", "{broken", '"a string"', "1", "[" * 100_000])
def test_other_text_has_no_parts(text: str) -> None:
    with pytest.raises(UnresolvedError, match="is a str, which has no '0'"):
        follow(text, "/0")


@pytest.mark.parametrize(
    ("value", "pointer", "message"),
    [
        ({"a": 1, "b": 2}, "/c", """there is no key 'c' at the top; keys there: "a", "b"$"""),
        ({"a": {}}, "/a/b/c", """there is no key 'b' at "/a"; keys there: none"""),
        ({"a": None}, "/a/b", """the value at "/a" is a null, which has no 'b'"""),
        ({"a": 5}, "/a/b", """the value at "/a" is a int"""),
        (dict.fromkeys("abcdefghijkl", 1), "/x", """"j", \\.\\.\\.$"""),
    ],
)
def test_a_missing_path_says_where_it_ends(value: Any, pointer: str, message: str) -> None:
    with pytest.raises(UnresolvedError, match=message):
        follow(value, pointer)
