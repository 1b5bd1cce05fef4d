"""What is printed where a terminal, file or pipe cannot hold a character."""

import codecs

ERRORS = "sidecall-marks"
"""Name of the error handler, for streams."""

_ASCII = str.maketrans(
    {"→": "->", "▸": ">", "◦": ".", "✓": "+", "✗": "x", "↺": "~", "…": "...", "─": "-", "█": "#"}
    | dict.fromkeys("·┄╌┈▒░", ".")
)


def register() -> None:
    """Makes the error handler known: our marks in ASCII, other characters as escapes."""
    codecs.register_error(ERRORS, _replace)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_ASCII)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end
