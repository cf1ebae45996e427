"""Named hooks: ordered lists of handlers (sync or async) that plugins and applications add to."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from tidings.errors import ConfigurationError

Handler = Callable[[Any], Awaitable[None] | None]
"""Takes the hook's context; whatever it returns is ignored, whatever it raises refuses."""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    handler: Handler
    before: tuple[str, ...]
    after: tuple[str, ...]


class HookRegistry:
    """The hooks of one Api. A hook exists once it is declared; a misspelt name is an error."""

    def __init__(self) -> None:
        self._hooks: dict[str, list[_Entry]] = {}
        self._ordered: dict[str, tuple[Handler, ...]] = {}

    def declare(self, *hooks: str) -> None:
        """Make hooks known, so that handlers can be added to them."""
        for hook in hooks:
            self._hooks.setdefault(hook, [])

    def add(
        self,
        hook: str,
        name: str,
        handler: Handler,
        *,
        before: str | Iterable[str] = (),
        after: str | Iterable[str] = (),
    ) -> None:
        """Add a named handler; ``before`` and ``after`` name handlers of the same hook.

        Raises:
            ConfigurationError: unknown hook, name taken, or an order that contradicts itself.
        """
        entries = self._hooks.get(hook)
        if entries is None:
            close = get_close_matches(hook, self._hooks, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            known = ", ".join(sorted(self._hooks))
            raise ConfigurationError(f"there is no hook {hook!r}{hint} (known: {known})")
        if any(entry.name == name for entry in entries):
            raise ConfigurationError(f"hook {hook!r} already has a handler named {name!r}")
        added = _Entry(name, handler, _names(before), _names(after))
        self._ordered[hook] = _ordered(hook, [*entries, added])
        entries.append(added)

    def has(self, hook: str) -> bool:
        """Tell whether anything listens, so that a hot path can skip building a context."""
        return bool(self._ordered.get(hook))

    async def run(
        self, hook: str, context: Any, *, after_each: Callable[[], None] | None = None
    ) -> None:
        """Call the handlers in order; the first one that raises stops the rest.

        ``after_each`` is called when each of them is done: it sees what the next may undo.
        """
        if getattr(context, "is_internal", False):
            return  # of what holds the pairs of a relationship nobody has written a hook
        for handler in self._ordered.get(hook, ()):
            result = handler(context)
            if inspect.isawaitable(result):
                await result
            if after_each is not None:
                after_each()


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _ordered(hook: str, entries: list[_Entry]) -> tuple[Handler, ...]:
    """Topological order; where ``before``/``after`` do not decide, the order of registration.

    A name that nobody has registered (yet) constrains nothing: plugins may name optional others.
    """
    waits_for: dict[str, set[str]] = {entry.name: set(entry.after) for entry in entries}
    for entry in entries:
        for later in entry.before:
            waits_for.setdefault(later, set()).add(entry.name)
    waiting = list(entries)
    done: list[_Entry] = []
    while waiting:
        open_names = {entry.name for entry in waiting}
        ready = next((e for e in waiting if not waits_for[e.name] & open_names), None)
        if ready is None:
            cycle = ", ".join(sorted(open_names))
            raise ConfigurationError(f"hook {hook!r}: the order of {cycle} contradicts itself")
        waiting.remove(ready)
        done.append(ready)
    return tuple(entry.handler for entry in done)
