"""What is wrong with the configuration."""

from collections.abc import Sequence


class ConfigError(Exception):
    """Settings are wrong; the text names each, and where it comes from.

    Attributes:
        mistakes: What is wrong, a line for each.
    """

    def __init__(self, *mistakes: str) -> None:
        """Takes what is wrong."""
        self.mistakes: Sequence[str] = mistakes
        many = len(mistakes) > 1
        super().__init__("\n".join([f"{len(mistakes)} mistakes:"] * many + list(mistakes)))
