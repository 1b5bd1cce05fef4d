"""From the parts of an outcome to those of a protobuf result, and lines in their place."""

from collections.abc import MutableSequence, Sequence

from sidecall._parts import blob_line, link_line
from sidecall.v1 import execution_pb2
from sidecall_server.core.outcome import BlobPart, JsonPart, Part, TextPart

_MAX_SHOWN_BYTES = 40

LEFT_OUT_BYTES = 384
"""Bytes that a part takes at most in its place and in the content once it is left out."""


def fill_parts(result: execution_pb2.ToolResult, parts: Sequence[Part]) -> None:
    """Writes the parts of a result."""
    for part in parts:
        if isinstance(part, TextPart):
            result.parts.add(text=part.text)
        elif isinstance(part, JsonPart):
            result.parts.add(json=part.text)
        elif isinstance(part, BlobPart):
            result.parts.add().blob.MergeFrom(
                execution_pb2.Blob(media_type=part.media_type, data=part.data, name=part.name)
            )
        else:
            result.parts.add().link.MergeFrom(
                execution_pb2.Link(uri=part.uri, media_type=part.media_type, name=part.name)
            )


def leave_out(result: execution_pb2.ToolResult, places: Sequence[int]) -> None:
    """Puts text that says so in place of parts that are too large; the content says it too."""
    for place in places:
        part = result.parts[place]
        line = _line(part, left_out=True)
        part.Clear()
        part.text = line
    result.content = "\n".join(_line(part) for part in result.parts)
    result.truncated = True


def put_content_for_texts(result: execution_pb2.ToolResult) -> None:
    """Makes the content the only text among the parts: what was cut must not stand twice."""
    parts: MutableSequence[execution_pb2.ResultPart] = result.parts
    kept = [part for part in parts if part.WhichOneof("part") in ("blob", "link")]
    del parts[:]
    result.parts.add(text=result.content)
    result.parts.extend(kept)


def _line(part: execution_pb2.ResultPart, *, left_out: bool = False) -> str:
    """What stands in the content for a part."""
    kind = part.WhichOneof("part")
    if kind == "blob":
        blob = part.blob
        if left_out:
            return blob_line(_short(blob.media_type), len(blob.data), _short(blob.name), _NOTE)
        return blob_line(blob.media_type, len(blob.data), blob.name)
    if kind == "link":
        link = part.link
        if left_out:
            return link_line(_short(link.uri), "", "", _NOTE)
        return link_line(link.uri, link.media_type, link.name)
    return part.text or part.json


_NOTE = "left out because it is too large"


def _short(text: str) -> str:
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= _MAX_SHOWN_BYTES:
        return text
    return data[:_MAX_SHOWN_BYTES].decode("utf-8", "ignore") + "..."
