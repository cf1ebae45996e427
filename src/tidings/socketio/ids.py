"""Ids that nobody guesses."""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from typing import Final

_RANDOM_BYTES: Final = 15
_AT_ONCE: Final = 100


class RandomIds:
    """Makes them. To ask the system for each one is a good part of a connect."""

    def __init__(self) -> None:
        self._bytes = b""

    def take(self) -> str:
        """Another one."""
        if len(self._bytes) < _RANDOM_BYTES:
            self._bytes = os.urandom(_AT_ONCE * _RANDOM_BYTES)
        own, self._bytes = self._bytes[:_RANDOM_BYTES], self._bytes[_RANDOM_BYTES:]
        return urlsafe_b64encode(own).decode()
