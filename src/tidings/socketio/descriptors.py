"""Descriptors: the number by which the system knows a connection, to write to it directly."""

from __future__ import annotations

import asyncio
import os


def descriptor_of(transport: asyncio.Transport) -> int | None:
    """Where bytes can be written that are to leave as they are: not with TLS."""
    line = transport.get_extra_info("socket")
    if os.name != "posix" or line is None or transport.get_extra_info("sslcontext") is not None:
        return None
    descriptor: int = line.fileno()
    return descriptor if descriptor >= 0 else None


def rest_after(descriptor: int, data: bytes) -> bytes:
    """What the system does not take of these bytes now."""
    try:
        return data[os.write(descriptor, data) :]
    except BlockingIOError:
        return data
