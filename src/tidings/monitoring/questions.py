"""Questions: asked once for all who want to know at that moment, and not waited for for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class Questions:
    """Asks whoever may be slow to answer; ``seconds`` is how long one who asks waits."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._asked: dict[str, asyncio.Task[Any]] = {}

    async def ask(self, name: str, question: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """The answer; a question of this name that is under way is not asked again.

        Raises:
            TimeoutError: there was none in time. The question is cancelled; while it does not
                even end by that, it counts as under way.
        """
        task: asyncio.Task[_T] | None = self._asked.get(name)
        if task is None or task.done():
            task = self._asked[name] = asyncio.create_task(question(), name=f"tidings-{name}")
            task.add_done_callback(_retrieved)
        await asyncio.wait([task], timeout=self.seconds)
        if not task.done() or task.cancelled():
            task.cancel()
            raise TimeoutError(f"no answer within {self.seconds:g} s")
        return task.result()


def _retrieved(task: asyncio.Task[Any]) -> None:
    """See its error, so that asyncio does not report one for which nobody waits any more."""
    if not task.cancelled():
        task.exception()
