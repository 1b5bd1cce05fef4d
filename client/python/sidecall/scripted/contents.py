"""Refuses contents that the real APIs refuse, in about their words."""

import base64
import binascii
from typing import Any

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_MESSAGE_TYPES = {
    "tool": ("text",),
    "system": ("text",),
    "developer": ("text",),
    "assistant": ("text", "refusal"),
    "user": ("text", "image_url", "input_audio", "file"),
}
_INPUT_TYPES = ("input_text", "input_image", "input_file")
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_MEDIA = ("image_url", "file", "input_image", "input_file")


def content_parts(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The content parts of a message or an output; none where it is text alone."""
    content = item.get("output") if item.get("type") in _OUTPUTS else item.get("content")
    return content if isinstance(content, list) else []


def is_medium(part: dict[str, Any]) -> bool:
    """Whether a content part is an image or a file."""
    return part.get("type") in _MEDIA


def part_media_type(part: dict[str, Any]) -> str:
    """Media type of an image or a file; empty where it is not in the request itself."""
    media_type, _, encoded = _address(part).removeprefix("data:").partition(";")
    return media_type if encoded else ""


def message_problem(message: dict[str, Any], where: str) -> str | None:
    """Why the content of a Chat Completions message is refused; None where it is not."""
    allowed = _MESSAGE_TYPES.get(str(message.get("role")), ("text",))
    return _parts_problem(message.get("content"), allowed, where, files=("application/pdf",))


def output_problem(item: dict[str, Any], where: str) -> str | None:
    """Why the content of an input item is refused; None where it is not."""
    if item.get("type") in _OUTPUTS:
        output = item.get("output")
        if not isinstance(output, str | list):
            return f"Missing required parameter: '{where}.output'."
        return _parts_problem(output, _INPUT_TYPES, f"{where}.output")
    if item.get("role") == "user":
        return _parts_problem(item.get("content"), _INPUT_TYPES, f"{where}.content")
    return None


def _parts_problem(
    content: Any, allowed: tuple[str, ...], where: str, files: tuple[str, ...] = ()
) -> str | None:
    if not isinstance(content, list):
        return None
    if not content:
        return f"Invalid '{where}': empty array. Expected an array with minimum length 1."
    for index, part in enumerate(content):
        kind = part.get("type")
        if kind not in allowed:
            expected = " and ".join(repr(name) for name in allowed)
            return f"Invalid value: {kind!r}. Supported values are: {expected}. ({where}[{index}])"
        if problem := _part_problem(part, files):
            return f"{problem} ({where}[{index}])"
    return None


def _part_problem(part: dict[str, Any], files: tuple[str, ...]) -> str | None:
    if part["type"] in ("text", "input_text"):
        return None if isinstance(part.get("text"), str) else "Missing required parameter: 'text'."
    if not is_medium(part):
        return None
    address = _address(part)
    if not address:
        by_id = part.get("file_id") or part.get("file", {}).get("file_id") or part.get("file_url")
        return None if by_id else "Missing required parameter: the image or file itself."
    if not address.startswith("data:"):
        return None if part["type"] in ("image_url", "input_image") else "Invalid file data."
    media_type = part_media_type(part)
    if not _is_base64(address):
        return "Invalid base64 data."
    if part["type"] in ("image_url", "input_image"):
        return (
            None
            if media_type in _IMAGES
            else (
                "You uploaded an unsupported image. Please make sure your image has one of the "
                "following formats: ['png', 'jpeg', 'gif', 'webp']."
            )
        )
    if not part.get("file", part).get("filename"):
        return "Missing required parameter: 'filename'."
    if files and media_type not in files:
        return f"Invalid file data: got unsupported MIME type {media_type!r}."
    return None


def _address(part: dict[str, Any]) -> str:
    """What an image or a file is given as: a URL that may hold it."""
    given = part.get("image_url") if "image_url" in part else part.get("file", part)
    if isinstance(given, dict):
        given = given.get("url", given.get("file_data"))
    return given if isinstance(given, str) else ""


def _is_base64(address: str) -> bool:
    _, marker, encoded = address.partition(";base64,")
    try:
        return bool(marker and base64.b64decode(encoded, validate=True))
    except binascii.Error:
        return False
