"""Attachments: the bytes that belong to a packet, and come behind it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from tidings.socketio.packets import EVENT, MalformedPacket, Packet, Unreadable
from tidings.socketio.session import Session

_BINARY: Final = Unreadable("binary")

Attached = Callable[[Packet | None, int], None]
"""Gets a packet that can be handled, and its size; and None when no attachment is to come."""


class Attachments:
    """The attachments of one packet, within the bounds of `Options`.

    A packet that does not get them, or more than is allowed, is handled without, so that its
    sender gets an answer; those that still come are counted and dropped.
    """

    __slots__ = (
        "_attached",
        "_is_refused",
        "_packet",
        "_parts",
        "_seen",
        "_session",
        "_size",
        "tick",
    )

    def __init__(self, session: Session, packet: Packet, attached: Attached) -> None:
        self.tick: int | None = None
        self._session = session
        self._packet = packet
        self._attached = attached
        self._is_refused = False
        self._parts: list[bytes] = []
        self._seen = 0
        self._size = 0

    def begin(self, *, is_wanted: bool) -> None:
        """Wait for them, if there is somebody who wants the packet."""
        options, wheel = self._session.engine.options, self._session.engine.wheel
        wheel.set(self, time.monotonic() + options.read_deadline)
        if self._packet.attachments > options.attachments or not is_wanted:
            self._refuse()

    def add(self, attachment: bytes) -> None:
        """Take the next one."""
        self._seen += 1
        is_last = self._seen == self._packet.attachments
        if not self._is_refused:
            try:
                self._keep(attachment, is_last=is_last)
            except MalformedPacket as error:
                self._session.has_erred(str(error))
                self._refuse()
        if is_last and self._session.is_open:
            self.end()
            if not self._is_refused:
                self._attached(self._packet, self._size)

    def give_up(self, why: str) -> None:
        """They will not come."""
        self.end()
        if not self._is_refused:
            self._session.has_erred(why)
            self._refuse()

    def due(self, _now: float) -> None:
        """They have not come in time (see `Wheel`)."""
        self.give_up("attachments have not come in time")

    def end(self) -> None:
        """Wait for them no more."""
        self._session.engine.wheel.discard(self)
        self._attached(None, 0)

    def _keep(self, attachment: bytes, *, is_last: bool) -> None:
        self._size += len(attachment)
        if self._size > self._session.engine.options.max_payload:
            raise MalformedPacket("the attachments are too large")
        self._parts.append(attachment)
        if is_last:
            self._packet.data = filled(self._packet.data, self._parts)

    def _refuse(self) -> None:
        self._is_refused = True
        self._parts.clear()
        packet = self._packet
        if packet.kind == EVENT and self._session.is_open:
            data = [packet.data[0], _BINARY]
            self._attached(Packet(EVENT, packet.namespace, packet.id, data), 0)


def filled(value: Any, parts: list[bytes]) -> Any:
    """The value with the attachments in place of what stands for them.

    Raises:
        MalformedPacket: it names others than there are, or is nested too deep.
    """
    try:
        return _filled(value, parts)
    except RecursionError:
        raise MalformedPacket("the payload is nested too deep") from None


def _filled(value: Any, parts: list[bytes]) -> Any:
    if isinstance(value, list):
        return [_filled(one, parts) for one in value]
    if isinstance(value, dict):
        if value.get("_placeholder") is True:
            number = value.get("num")
            if type(number) is not int or not 0 <= number < len(parts):
                raise MalformedPacket("a placeholder is for no attachment")
            return parts[number]
        return {key: _filled(one, parts) for key, one in value.items()}
    return value
