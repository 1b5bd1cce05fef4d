"""Images, files and links that tools return."""

from pathlib import Path
from typing import Any

import pytest

from sidecall import File, Image, Link, ResultError
from sidecall._values import RenderedText, join_yielded, render, render_result

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 10


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
    ],
)
def test_the_format_of_an_image_is_told_from_its_content(content: bytes, media_type: str) -> None:
    assert Image(content, name="misnamed.txt").media_type == media_type


def test_the_format_of_an_image_may_be_told_from_its_name() -> None:
    assert Image(b"<svg/>", name="logo.svg").media_type == "image/svg+xml"


def test_the_bytes_of_an_image_win_over_what_is_said_of_them() -> None:
    assert Image(PNG, "image/jpeg").media_type == "image/png"
    assert Image(b"\xff\xd8\xff", "image/jpg").media_type == "image/jpeg"
    with pytest.raises(ValueError, match="no image/png"):
        Image(b"<html>Not found</html>", "image/png")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\reports\\a.csv", "a.csv"),
        ("reports/2026/", "2026"),
        ("a\x1b[31m\x00b.csv", "a [31m b.csv"),
        ("..", ""),
        ("/", ""),
        ("x" * 300 + ".csv", "x" * 251 + ".csv"),
    ],
)
def test_a_name_has_neither_folders_nor_control_characters(name: str, kept: str) -> None:
    assert File(b"", "text/csv", name).name == kept


def test_a_name_is_text(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be text"):
        File(b"", "text/csv", tmp_path)  # type: ignore[arg-type]  # what the test is about


def test_the_number_of_parts_is_bounded() -> None:
    link = Link("https://example.org")
    assert len(render_result([link, *["x"] * 999])[2]) == 1_000
    with pytest.raises(ResultError, match="1001 parts, and at most 1000"):
        render_result([link, *["x"] * 1_000])


def test_an_image_of_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="media_type="):
        Image(b"?")
    assert Image(b"?", "image/x-own").media_type == "image/x-own"


@pytest.mark.parametrize(
    ("content", "name", "media_type"),
    [
        (b"a,b", "table.csv", "text/csv"),
        (b"%PDF-1.7", "", "application/pdf"),
        (b"?", "", "application/octet-stream"),
    ],
)
def test_the_type_of_a_file(content: bytes, name: str, media_type: str) -> None:
    assert File(content, name=name).media_type == media_type


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_read_at_once(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "chart.png"
    path.write_bytes(PNG)
    image = Image(kind(path))
    path.unlink()
    assert (image.data, image.name, image.media_type) == (PNG, "chart.png", "image/png")
    assert image == Image(PNG, name="chart.png")
    assert image != File(PNG, "image/png", "chart.png")


@pytest.mark.parametrize("media_type", ["png", "image/png\n", "ima ge/png", "image/png; a=\x00"])
def test_a_malformed_media_type_is_refused(media_type: str) -> None:
    with pytest.raises(ValueError, match="is not a media type"):
        File(b"", media_type)
    with pytest.raises(ValueError, match="is not a media type"):
        Link("https://example.org", media_type)


def test_a_link_needs_an_address() -> None:
    with pytest.raises(ValueError, match="address"):
        Link("")


def test_a_part_alone() -> None:
    image = Image(PNG, name="chart.png")
    assert render_result(image) == ("[image/png, 18 bytes: chart.png]", False, (image,))


def test_parts_beside_text_and_values() -> None:
    image, link = Image(PNG), Link("https://example.org/a", "text/html", "a page")
    text, is_json, parts = render_result(["Look:", image, {"a": [1]}, link, None, ""])
    assert text.split("\n") == [
        "Look:",
        "[image/png, 18 bytes]",
        '{"a":[1]}',
        "[link: https://example.org/a (a page, text/html)]",
        "null",
    ]
    assert not is_json
    assert parts == (
        RenderedText("Look:", False),
        image,
        RenderedText('{"a":[1]}', True),
        link,
        RenderedText("null", True),
    )


def test_names_cannot_add_lines_or_break_the_encoding() -> None:
    text, _ = render([Image(PNG, name="a\nb\ud800.png")])
    assert text == r"[image/png, 18 bytes: a b\ud800.png]"


@pytest.mark.parametrize(
    "value",
    [
        {"image": Image(PNG)},
        [[Image(PNG)]],
        [Image(PNG), {"all": [Link("u")]}],
        {"file": File(b"text")},
        {"link": ("a", Link("u"))},
    ],
)
def test_a_part_inside_a_value_is_refused(value: Any) -> None:
    with pytest.raises(ResultError, match="inside another value"):
        render_result(value)


@pytest.mark.parametrize("value", [[], ["a", "b"], [None, 1], ("a",), {"a": "b"}])
def test_values_without_parts_are_json_as_ever(value: Any) -> None:
    assert render_result(value)[1:] == (True, ())


def test_texts_that_a_generator_yields_between_parts_are_pieces_of_one() -> None:
    image = Image(PNG)
    assert join_yielded(["a", "b", image, "c", 1, "d", "e"]) == ["ab", image, "c", 1, "de"]
    assert join_yielded(["a", "b"]) == "ab"
    assert join_yielded(["a", 1]) == ["a", 1]
    assert join_yielded([]) == ""
