"""Measures variants in turn, so that a machine whose speed drifts drifts for all of them."""

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

Variant = Callable[[], Awaitable[None]]
"""Runs once and checks its own results."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall times of one variant.

    Attributes:
        median_ms: Median in milliseconds.
        min_ms: Minimum in milliseconds.
    """

    median_ms: float
    min_ms: float

    def __str__(self) -> str:
        return f"{self.median_ms:9.3f} ({self.min_ms:.3f})"


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio within one run and what it should be.

    Attributes:
        number: Number of the goal.
        text: What is compared.
        value: Ratio of the medians.
        minimum: The same of the minima, as a cross-check.
        bound: What it should be at most.
        unit: Unit of the value; empty for a ratio.
    """

    number: str
    text: str
    value: float
    minimum: float
    bound: float
    unit: str = ""

    @property
    def reached(self) -> bool:
        """Whether the median is within the bound."""
        return self.value <= self.bound

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "MISSED "
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"  {self.number:>3}  {verdict}  {self.value:8.3f} (min {self.minimum:.3f}){unit}"
            f"  goal <= {self.bound:g}{unit}   {self.text}"
        )


async def measure(variants: Mapping[str, Variant], rounds: int) -> dict[str, Timing]:
    """Runs each variant once per round, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, variant in variants.items():
            start = time.perf_counter()
            await variant()
            elapsed_ms = (time.perf_counter() - start) * 1e3
            if number:
                times[name].append(elapsed_ms)
    return {name: Timing(statistics.median(ms), min(ms)) for name, ms in times.items()}


def ratio(
    number: str, text: str, bound: float, over: Timing, under: Sequence[Timing], factor: float = 1.0
) -> Goal:
    """The goal that one timing is at most `bound` times the sum of others times a factor."""
    median = sum(t.median_ms for t in under) * factor
    minimum = sum(t.min_ms for t in under) * factor
    return Goal(number, text, over.median_ms / median, over.min_ms / minimum, bound)


def print_table(title: str, rows: Mapping[str, Mapping[str, Timing]]) -> None:
    """Prints variants as rows and sizes as columns, median (min) in milliseconds."""
    columns = list(next(iter(rows.values())))
    print(f"\n{title}: ms, median (min)")
    print(" " * 34 + "".join(f"{column:>22}" for column in columns))
    for name, cells in rows.items():
        print(f"{name:34}" + "".join(f"{cells[column]!s:>22}" for column in columns))
