"""How a source of tools is named."""


def is_path(name: str) -> bool:
    """Whether a source is named by a path rather than as a module."""
    return name.endswith(".py") or "/" in name or "\\" in name
