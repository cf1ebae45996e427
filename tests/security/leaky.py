"""A server that tells what it must not, for the tap to find: the title of each record."""

from __future__ import annotations

from typing import Any

import pytest

from tidings.realtime import delivery
from tidings.realtime.messages import Event


def leak_titles(patch: pytest.MonkeyPatch) -> None:
    """Have every notification hold the title of its record."""
    made = delivery.encoder

    def careless(change: Any, cursor: str) -> Any:
        encode = made(change, cursor)
        title = (change.after or change.before)["title"]

        def with_title(way: str, name: str) -> Any:
            event = encode(way, name)
            leak = f'"title":"{title}","meta":'
            return Event(event.name, event.payload.replace(b'"meta":', leak.encode()))

        return with_title

    patch.setattr(delivery, "encoder", careless)
