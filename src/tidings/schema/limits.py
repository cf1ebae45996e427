"""Limits on what one filter may ask: of the database, and of every change that is matched."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from tidings.errors import ConfigurationError

# Up to these every supported database has been seen to answer (tests/proof/test_limits.py).
MOST: Final = {"values": 3_000, "comparisons": 3_000, "depth": 32, "text": 2_500, "searches": 3_000}


@dataclass(frozen=True, slots=True)
class FilterLimits:
    """How large filters may be, over HTTP and in subscriptions alike.

    ``values`` is how many one filter may list (``in``, a split text), ``text`` how many characters
    one value may have. ``comparisons`` and ``depth`` bound what all filters of a request come to,
    each value of a list being a comparison; ``depth`` is also how deep the clauses of hooks and
    policies may be nested. ``searches`` is how many texts may be looked for within others
    (``like``): each looks through the whole of a value, of every row and at every change.

        Api(filter_limits=FilterLimits(values=50))
    """

    values: int = 500
    comparisons: int = 1_000
    depth: int = 32
    text: int = 1_000
    searches: int = 60

    def __post_init__(self) -> None:
        for one in fields(self):
            value, most = getattr(self, one.name), MOST[one.name]
            if type(value) is not int or not 1 <= value <= most:
                raise ConfigurationError(
                    f"FilterLimits: {one.name} must be an integer from 1 to {most:,}, not {value!r}"
                )
