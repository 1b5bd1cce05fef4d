"""Keys of lanes never mix two sets of arguments up."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecall_server.policy.lane_key import LaneKey

# Few characters, so that values and the text between them look alike.
TEXT = st.text(alphabet="%+-=:12{}\x1f", max_size=4)
LITERALS = st.lists(TEXT, min_size=2, max_size=4)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def template_of(literals: list[str]) -> str:
    texts = [text.replace("{", "{{").replace("}", "}}") for text in literals]
    return texts[0] + "".join(f"{{a{n}}}{text}" for n, text in enumerate(texts[1:]))


@given(LITERALS, st.data())
def test_text_is_never_mixed_up(literals: list[str], data: st.DataObject) -> None:
    key = LaneKey(template_of(literals))
    count = len(literals) - 1
    one, other = ({f"a{n}": data.draw(TEXT) for n in range(count)} for _ in range(2))

    assert (key.of(one) == key.of(other)) == (one == other)


@given(LITERALS, TEXT)
def test_one_value_stands_as_it_is(literals: list[str], value: str) -> None:
    head, tail = literals[:2]

    assert LaneKey(template_of([head, tail])).of({"a0": value}) == head + value + tail


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4))
def test_every_value_has_a_key_that_ignores_the_order_of_names(value: dict[str, Any]) -> None:
    key = LaneKey("{a}/{b}")
    turned = dict(reversed(value.items()))

    assert isinstance(key.of({"a": value, "b": 1}), str)
    assert key.of({"a": value, "b": value}) == key.of({"a": turned, "b": turned})


@given(st.integers(-(2**80), 2**80))
def test_equal_numbers_share_a_lane(number: int) -> None:
    key = LaneKey("{a}")
    as_float = float(number)

    assert key.of({"a": number}) == key.of({"a": str(number)})
    assert (key.of({"a": number}) == key.of({"a": as_float})) == (number == as_float)
