"""From what a Python tool returned to an outcome."""

from sidecall._parts import Link
from sidecall._values import RenderedPart, RenderedText, encodable, render_result
from sidecall_server.core.outcome import BlobPart, JsonPart, LinkPart, Part, Success, TextPart


def success_of(value: object) -> Success:
    """The outcome of a tool that returned a value.

    Raises:
        ResultError: The value cannot be written.
    """
    text, is_json, parts = render_result(value)
    if parts:
        return Success(text, is_json, tuple(map(_part, parts)))
    return Success(text, is_json)


def _part(part: RenderedPart) -> Part:
    if isinstance(part, RenderedText):
        return JsonPart(part.text) if part.is_json else TextPart(part.text)
    if isinstance(part, Link):
        return LinkPart(encodable(part.uri), part.media_type, encodable(part.name))
    return BlobPart(part.media_type, part.data, encodable(part.name))
