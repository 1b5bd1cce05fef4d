"""What a tool returns beside text and JSON: images, files and links."""

import mimetypes
import re
from os import PathLike
from pathlib import Path

Source = bytes | bytearray | memoryview | str | PathLike[str]
"""Content itself, or the path of a file that holds it."""

MAX_PARTS = 1_000
"""Most images, files, links and values beside them in one result."""

_MAX_NAME_CHARS = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+( *;[ -~]*)?", re.ASCII)
_UNKNOWN = "application/octet-stream"
_SIGNATURES = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"%PDF-", "application/pdf"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"PK\x03\x04", "application/zip"),
)
_SIGNED = frozenset(media_type for *_, media_type in _SIGNATURES)

# None of these is a dataclass: the JSON writer would take a dataclass inside another value
# for an object with the bytes as text, instead of refusing it.


class _Binary:  # noqa: PLW1641  it can be changed, so it has no hash
    """Bytes with their media type. Reads the file where it is given a path.

    Attributes:
        data: The bytes.
        media_type: What they are, for example "image/png".
        name: A file name for people and models, without folders; may be empty.
    """

    __slots__ = ("data", "media_type", "name")

    def __init__(self, data: Source, media_type: str | None = None, name: str = "") -> None:
        """Takes the content.

        Args:
            data: The bytes, or the path of a file.
            media_type: What they are; None to tell it from the content and the name. What
                the bytes of an image say wins over it.
            name: A file name; that of the file where a path is given. Folders before it
                and control characters in it are dropped.

        Raises:
            OSError: The file cannot be read.
            TypeError: The name is no text.
            ValueError: The media type is malformed, or the bytes are no image of it.
        """
        if isinstance(data, str | PathLike):
            path = Path(data)
            data, name = path.read_bytes(), name or path.name
        self.data = bytes(data)
        self.name = file_name(name)
        self.media_type = _checked(media_type or self._guess())

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._key() == self._key()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({blob_line(self.media_type, len(self.data), self.name)})"

    def _key(self) -> tuple[str, str, bytes]:
        return self.media_type, self.name, self.data

    def _guess(self) -> str:
        raise NotImplementedError


class Image(_Binary):
    """An image that a tool returns, alone or in a list with text and other values.

    Example:
        ```python
        @tool
        def draw_chart(city: str) -> list[str | Image]:
            return [f"Temperatures in {city}:", Image(draw(city), name="chart.png")]
        ```
    """

    __slots__ = ()

    def __init__(self, data: Source, media_type: str | None = None, name: str = "") -> None:
        """Takes the content; see `File`."""
        super().__init__(data, media_type, name)
        found = media_type_of(self.data)
        if found.startswith("image/"):
            self.media_type = found
        elif bare_media_type(self.media_type) in _SIGNED:
            raise ValueError(f"the bytes are no {self.media_type}")

    def _guess(self) -> str:
        guessed = media_type_of(self.data) or _by_name(self.name)
        if not guessed.startswith("image/"):
            raise ValueError("the image's format is not known; say it with media_type=")
        return guessed


class File(_Binary):
    """A file that a tool returns, alone or in a list with text and other values."""

    __slots__ = ()

    def _guess(self) -> str:
        return _by_name(self.name) or media_type_of(self.data) or _UNKNOWN


class Link:  # noqa: PLW1641  as above
    """Points to content elsewhere; returned alone or in a list with other values.

    The model gets the address as text; nothing is fetched.

    Attributes:
        uri: The address.
        media_type: What is there; empty where unknown.
        name: A name for people and models; may be empty.
    """

    __slots__ = ("media_type", "name", "uri")

    def __init__(self, uri: str, media_type: str = "", name: str = "") -> None:
        """Takes the address.

        Raises:
            ValueError: The address is empty, or the media type malformed.
        """
        if not uri:
            raise ValueError("a link needs an address")
        self.uri = uri
        self.media_type = _checked(media_type) if media_type else ""
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Link) and other._key() == self._key()

    def __repr__(self) -> str:
        return f"Link({link_line(self.uri, self.media_type, self.name)})"

    def _key(self) -> tuple[str, str, str]:
        return self.uri, self.media_type, self.name


PART_TYPES = (Image, File, Link)


def blob_line(media_type: str, size_bytes: int, name: str, note: str = "") -> str:
    """The line that stands in a text for binary content: "[image/png, 3412 bytes: a.png]"."""
    what = f"{media_type}, {size_bytes} bytes" + (f": {_on_one_line(name)}" if name else "")
    return f"[{what}; {note}]" if note else f"[{what}]"


def link_line(uri: str, media_type: str, name: str, note: str = "") -> str:
    """The line that stands in a text for a link: "[link: https://... (a report, text/html)]"."""
    about = ", ".join(_on_one_line(item) for item in (name, media_type) if item)
    what = f"link: {_on_one_line(uri)}" + (f" ({about})" if about else "")
    return f"[{what}; {note}]" if note else f"[{what}]"


def bare_media_type(media_type: str) -> str:
    """A media type without parameters, in lower case."""
    bare = media_type.partition(";")[0].strip().lower()
    return "image/jpeg" if bare == "image/jpg" else bare


def file_name(name: object) -> str:
    """The name without folders, control characters and more than one space in a row.

    Raises:
        TypeError: It is no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a file must be text, not {name!r}")
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    clean = _on_one_line(_CONTROL.sub(" ", last))[-_MAX_NAME_CHARS:]
    return "" if clean in (".", "..") else clean


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _checked(media_type: str) -> str:
    if not _MEDIA_TYPE.fullmatch(media_type):
        raise ValueError(f'{media_type!r} is not a media type such as "image/png"')
    return media_type


def media_type_of(data: bytes) -> str:
    """The media type that bytes begin as; empty where that is not known."""
    for offset, signature, media_type in _SIGNATURES:
        if data.startswith(signature, offset):
            return media_type
    return ""


def _by_name(name: str) -> str:
    return mimetypes.guess_type(name)[0] or ""
