"""Results in the forms that model providers take.

A provider takes images and files beside the text of a result: in the Responses API inside
the call's output; in Chat Completions, whose tool messages hold text only, in a user
message after all tool messages of the turn. Links stay text: a provider that cannot fetch
one refuses the whole conversation.
"""

import base64
import mimetypes
from collections.abc import Iterable, Sequence
from typing import Any

from sidecall._parts import bare_media_type, blob_line, file_name, media_type_of
from sidecall.v1.execution_pb2 import Blob, ToolResult

Part = dict[str, Any]
"""A content part of a message or an output."""

ATTACHMENTS_NOTE = "[Images and files of the tool results above. The user did not write this.]"
"""Begins the user message that holds attachments."""

_IMAGES = ("image/png", "image/jpeg", "image/webp", "image/gif")
_PDF = "application/pdf"
_PDF_MARK = b"%PDF-"
_PDF_HEAD_BYTES = 1024
_OFFICE = "application/vnd.openxmlformats-officedocument"
_DOCUMENTS = (
    _PDF,
    "application/json",
    "application/rtf",
    "application/msword",
    "application/vnd.ms-excel",
    "application/vnd.ms-powerpoint",
    "application/vnd.oasis.opendocument.text",
    f"{_OFFICE}.wordprocessingml.document",
    f"{_OFFICE}.spreadsheetml.sheet",
    f"{_OFFICE}.presentationml.presentation",
)


def to_chat_completions_messages(
    results: Iterable[ToolResult], *, attachments: bool = True
) -> list[dict[str, Any]]:
    """Makes the messages that answer the calls of one turn in Chat Completions.

    They go right after the assistant message that made the calls, and together answer all
    of them where there is a result for each.

    Args:
        results: The results of the turn's calls.
        attachments: Whether a user message with images and PDF files follows the tool
            messages where there are any. The tool messages name them in any case.
    """
    messages: list[dict[str, Any]] = []
    attached: list[Part] = []
    for result in results:
        messages.append({"role": "tool", "tool_call_id": result.call_id, "content": result.content})
        if attachments:
            attached += attached_parts(result.call_id, [result])
    return [*messages, attached_message(attached)] if attached else messages


def to_responses_outputs(
    results: Iterable[ToolResult], *, attachments: bool = True
) -> list[dict[str, Any]]:
    """Makes the items that answer function calls in the Responses API.

    Args:
        results: The results.
        attachments: Whether outputs hold images and documents beside text.
    """
    return [
        {
            "type": "function_call_output",
            "call_id": result.call_id,
            "output": responses_output(result.content, [result] if attachments else ()),
        }
        for result in results
    ]


def attached_parts(call_id: str, results: Sequence[ToolResult]) -> list[Part]:
    """The images and PDF files of a call's results as labelled parts of a user message.

    Beside them it holds nothing that a tool wrote: that would speak as the user.
    """
    parts: list[Part] = []
    for result in results:
        for blob in _blobs(result):
            part = _chat_completions_part(blob)
            if part is not None:
                number = len(parts) // 2 + 1
                label = f"Attachment {number} of the result of call {call_id} ({result.name}):"
                parts += [{"type": "text", "text": label}, part]
    return parts


def attached_message(parts: Sequence[Part]) -> dict[str, Any]:
    """The user message that holds attachments."""
    return {"role": "user", "content": [{"type": "text", "text": ATTACHMENTS_NOTE}, *parts]}


def responses_output(content: str, results: Sequence[ToolResult]) -> str | list[Part]:
    """The output of a call: its text, and with images or documents a list that begins so."""
    parts: list[Part] = []
    for result in results:
        for blob in _blobs(result):
            part = _responses_part(blob)
            if part is not None:
                line = blob_line(blob.media_type, len(blob.data), blob.name)
                parts += [{"type": "input_text", "text": f"{line}:"}, part]
    return [{"type": "input_text", "text": content}, *parts] if parts else content


def _blobs(result: ToolResult) -> list[Blob]:
    return [part.blob for part in result.parts if part.HasField("blob") and part.blob.data]


def _chat_completions_part(blob: Blob) -> Part | None:
    media_type = _shown_as(blob)
    if media_type in _IMAGES:
        return {"type": "image_url", "image_url": {"url": _data_url(media_type, blob.data)}}
    if media_type == _PDF:
        # Without the tool's own name for it, which the tool message tells.
        return {"type": "file", "file": _file(media_type, Blob(data=blob.data))}
    return None


def _responses_part(blob: Blob) -> Part | None:
    media_type = _shown_as(blob)
    if media_type in _IMAGES:
        return {"type": "input_image", "image_url": _data_url(media_type, blob.data)}
    if media_type in _DOCUMENTS or media_type.startswith("text/"):
        return {"type": "input_file", **_file(media_type, blob)}
    return None


def _shown_as(blob: Blob) -> str:
    """The media type to show bytes as; empty where they are not what they are said to be.

    A provider that cannot read one image refuses the whole conversation, from then on.
    """
    media_type = bare_media_type(blob.media_type)
    if media_type in _IMAGES:
        found = media_type_of(blob.data)
        return found if found in _IMAGES else ""
    if media_type == _PDF and _PDF_MARK not in blob.data[:_PDF_HEAD_BYTES]:
        return ""
    return media_type


def _file(media_type: str, blob: Blob) -> dict[str, str]:
    name = file_name(blob.name) or "file" + (mimetypes.guess_extension(media_type) or "")
    return {"filename": name, "file_data": _data_url(media_type, blob.data)}


def _data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
