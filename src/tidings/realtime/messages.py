"""Event: what a client is told, whatever the wire: a name, and a payload that is encoded once."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tidings.numbers import encode_number

_encoder: Final = msgspec.json.Encoder(decimal_format="string", enc_hook=encode_number)
encode_json: Final = _encoder.encode
"""A value as JSON."""


class Event:
    """One message; the same object for every client that gets it.

    ``payload`` is JSON. ``form`` is for the wire: what it makes of the message, kept so that it is
    made once.
    """

    __slots__ = ("form", "name", "payload")

    def __init__(self, name: str, payload: bytes) -> None:
        self.name = name
        self.payload = payload
        self.form: Any = None

    @classmethod
    def of(cls, name: str, payload: Any) -> Event:
        """An event with this payload."""
        return cls(name, encode_json(payload))


def json_text(value: str) -> str:
    """A string as JSON."""
    return msgspec.json.encode(value).decode()
