import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from sidecall_server.cli.arguments import laid_out, problem

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_what_fits_stays_on_one_line() -> None:
    assert laid_out('{"to":"Rome"}', 40) == ['{"to":"Rome"}']


def test_the_rest_is_indented_and_folded_after_words() -> None:
    text = '{"to":"Rome","tags":["a",{}],"text":"one two three four","empty":[],"n":1.50}'
    assert laid_out(text, 24) == [
        "{",
        '  "to": "Rome",',
        '  "tags": [',
        '    "a",',
        "    {}",
        "  ],",
        '  "text": "one two three ',
        '  four",',
        '  "empty": [],',
        '  "n": 1.50',
        "}",
    ]


def test_spaces_do_not_hide_what_follows() -> None:
    lines = laid_out('{"command":"ls' + " " * 100 + 'rm"}', 30)
    assert "".join(line[2:] for line in lines[1:-1]) == '"command": "ls' + " " * 100 + 'rm"'


@pytest.mark.parametrize("text", ["{", '{"a":"', "no JSON\n", "", '{"a" "b"}'])
def test_what_is_no_json_is_shown_all_the_same(text: str) -> None:
    shown = "".join(laid_out(text + "x" * 30, 20)).replace(" ", "")
    assert shown == (text + "x" * 30).replace("\n", "\\n").replace(" ", "")


@given(st.dictionaries(st.text(), JSON), st.integers(20, 60))
def test_nothing_is_lost_and_lines_fit(values: dict[str, object], width: int) -> None:
    text = json.dumps(values)
    lines = laid_out(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(cell_len(line.rstrip(" ")) <= width for line in lines)


def test_deep_values_keep_their_lines_short() -> None:
    lines = laid_out('{"a":' * 500 + "1" + "}" * 500, 40)
    assert max(map(len, lines)) <= 40


@pytest.mark.parametrize("text", ["[]", "{", "", "[" * 100_000])
def test_what_cannot_be_arguments(text: str) -> None:
    assert problem(text)
    assert problem('{"a": 1}') is None
