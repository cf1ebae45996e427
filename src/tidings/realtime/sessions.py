"""Sessions: the sockets whose tokens hold, and what becomes of them when they no longer do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from tidings.identity import Identity
from tidings.realtime.deadlines import Deadlines
from tidings.realtime.messages import Event
from tidings.realtime.notifications import timestamp
from tidings.realtime.subscriptions import Subscriber

_NOBODY: Final[dict[Subscriber, None]] = {}
_REVOKED: Final = -math.inf
_RENEWAL_SECONDS: Final = 10.0
"""So long an expired socket waits for the outcome of its renewal, and is told nothing."""
_LATEST: Final = 253_402_300_799.0

IsRevoked = Callable[[Identity], bool]
End = Callable[[Subscriber, str, str], None]
"""Ends a socket with an event that says why: its name and its message."""


class Sessions:
    """The sockets of one process, by user, until their identities expire or are revoked.

    What decides over a notification is `Subscriber.ends_at`, which delivery looks at: that holds
    to the moment, however late a timer comes. ``warning`` seconds before it the client is told, but
    not before half of what is left has passed;
    ``leeway`` is for how long a token is accepted beyond its ``exp``.
    """

    def __init__(
        self, end: End, is_revoked: IsRevoked, *, warning: float = 60.0, leeway: float = 0.0
    ) -> None:
        self._end = end
        self._is_revoked = is_revoked
        self._warning = warning
        self._leeway = leeway
        self._deadlines: Deadlines[Subscriber] = Deadlines(self._due)
        self._of_user: dict[str | None, Subscriber | dict[Subscriber, None]] = {}
        self._renewing: dict[Subscriber, bool] = {}

    def __len__(self) -> int:
        return len(self.all())

    def of_user(self, user_id: str | None) -> list[Subscriber]:
        """The sockets of a user."""
        found = self._of_user.get(user_id, _NOBODY)
        return [found] if isinstance(found, Subscriber) else list(found)

    def all(self) -> list[Subscriber]:
        """All sockets."""
        return [one for user_id in self._of_user for one in self.of_user(user_id)]

    def add(self, subscriber: Subscriber) -> None:
        """Watch over a socket that has just connected."""
        user_id = subscriber.identity.user_id
        found = self._of_user.get(user_id)
        # Most users have one, and a dict for each would be a good part of what a socket costs.
        if found is None:
            self._of_user[user_id] = subscriber
        elif isinstance(found, Subscriber):
            self._of_user[user_id] = {found: None, subscriber: None}
        else:
            found[subscriber] = None
        self._watch(subscriber)

    def discard(self, subscriber: Subscriber) -> None:
        """Forget a socket that is gone."""
        self._deadlines.discard(subscriber)
        user_id = subscriber.identity.user_id
        found = self._of_user.get(user_id, _NOBODY)
        if not isinstance(found, Subscriber):
            found.pop(subscriber, None)
        if found is subscriber or not found:
            self._of_user.pop(user_id, None)

    def close(self) -> None:
        """Watch no longer."""
        self._deadlines.clear()

    @contextmanager
    def renewal(self, subscriber: Subscriber) -> Iterator[Callable[[], bool]]:
        """Keep a socket that expires meanwhile until it is known whether its new token will do.

        Call what is given when its identity is the new one; it tells whether the old one has
        expired meanwhile, so that notifications were held back.
        """
        self._renewing[subscriber] = False
        try:
            yield lambda: self._renewed(subscriber)
        finally:
            if self._renewing.pop(subscriber) and subscriber.is_open:
                self._deadlines.set(subscriber, subscriber.ends_at)

    def revoked(self, user_ids: set[str], token_ids: set[str]) -> None:
        """End the sockets whose tokens have just been revoked; nothing more is sent to them."""
        for user_id in user_ids:
            self._check(self.of_user(user_id))
        if token_ids:
            self._check(one for one in self.all() if one.identity.token_id in token_ids)

    def _check(self, subscribers: Iterable[Subscriber]) -> None:
        for subscriber in subscribers:
            if self._is_revoked(subscriber.identity):
                subscriber.ends_at = _REVOKED
                self._deadlines.set(subscriber, _REVOKED)

    def _renewed(self, subscriber: Subscriber) -> bool:
        has_expired = subscriber.ends_at <= time.time()
        self._renewing[subscriber] = False
        self._watch(subscriber)
        return has_expired

    def _watch(self, subscriber: Subscriber) -> None:
        """Set a socket's end, and its next deadline: the warning, if there is to be one."""
        identity = subscriber.identity
        expires_at = math.inf if identity.expires_at is None else identity.expires_at
        subscriber.ends_at = _REVOKED if self._is_revoked(identity) else expires_at + self._leeway
        if subscriber.ends_at == math.inf:
            self._deadlines.discard(subscriber)
        elif subscriber.ends_at == _REVOKED or not self._warning:
            self._deadlines.set(subscriber, subscriber.ends_at)
        else:
            # A token that lives shorter than the warning would be renewed without a pause.
            now = time.time()
            self._deadlines.set(
                subscriber, max(expires_at - self._warning, now + (expires_at - now) / 2)
            )

    def _due(self, subscriber: Subscriber) -> None:
        now = time.time()
        if subscriber.ends_at > now:
            expires_at = moment(subscriber.identity.expires_at)
            subscriber.connection.send(Event.of("auth.expiring", {"expiresAt": expires_at}))
            self._deadlines.set(subscriber, subscriber.ends_at)
        elif subscriber.ends_at == _REVOKED:
            self._end(subscriber, "auth.revoked", "Token revoked")
        elif self._renewing.get(subscriber) is False:
            self._renewing[subscriber] = True
            self._deadlines.set(subscriber, now + _RENEWAL_SECONDS)
        else:
            self._end(subscriber, "auth.expired", "Token expired")


def moment(seconds: float | None) -> str | None:
    """A time in seconds since the epoch as the wire has it; None where there is none."""
    if seconds is None:
        return None
    return timestamp(datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST), UTC))
