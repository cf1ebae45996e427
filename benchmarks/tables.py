"""Results: tables for people, and the same as JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

Figures = Mapping[str, float]


@dataclass(slots=True)
class Table:
    """One benchmark's results: rows of named figures, in the order of ``columns``."""

    title: str
    columns: list[str]
    rows: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, what: str, figures: Figures) -> None:
        """Add a row."""
        self.rows.append((what, dict(figures)))

    def as_json(self) -> dict[str, Any]:
        """The table as JSON has it: NaN is null."""
        table = asdict(self)
        table["rows"] = [
            {"what": what, **{name: _or_none(value) for name, value in figures.items()}}
            for what, figures in self.rows
        ]
        return table

    def __str__(self) -> str:
        cells = [["", *self.columns]]
        cells += [
            [what, *(_shown(figures.get(name)) for name in self.columns)]
            for what, figures in self.rows
        ]
        widths = [max(len(row[index]) for row in cells) for index in range(len(cells[0]))]
        lines = [self.title, "=" * len(self.title)]
        for first, *rest in cells:
            aligned = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
            lines.append("  ".join([first.ljust(widths[0]), *aligned]).rstrip())
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def median(values: Iterable[float]) -> float:
    """The median; NaN of nothing."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan


def percentile(values: list[float], percent: int) -> float:
    """The value that this many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _shown(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
