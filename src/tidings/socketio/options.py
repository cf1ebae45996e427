"""Options: how a server paces its clients, and what it bears from them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Options:
    """Times are in seconds, sizes in bytes; zero is no bound where that is said.

    ``ping_interval`` and ``ping_timeout`` are told to clients, in milliseconds. A client that is
    in no namespace ``connect_deadline`` after it came is disconnected; an upgrade to a WebSocket
    may take as long.

    A message of more than ``max_payload`` ends its connection, as a body of that size ends its
    request. ``first_payload`` is the bound for a client that is in no namespace yet; what is
    larger is not read. Of an event's arguments at most ``max_message`` characters are read, beside
    ``attachments`` binary ones, which may come to ``max_payload``.

    ``malformed`` frames and packets are borne from one connection; the next ends it. The protocol
    wants 0, and a client that has written one such packet is not likely to be one.

    Where more than ``answer_bytes`` are unsent to a client, its events wait. One to which
    ``unsent_bytes`` in ``unsent_frames`` cannot be sent is disconnected. ``buffer_bytes`` is what
    the transport takes before it says that a client does not read.

    ``unconnected`` and ``polling`` are the sessions of this process, in all and per network
    address, that are in no namespace yet, and that have no WebSocket (0: any number).
    ``reading_bytes`` is what all messages may come to that are being received.
    """

    ping_interval: float = 25.0
    ping_timeout: float = 20.0
    connect_deadline: float = 10.0
    read_deadline: float = 30.0
    max_payload: int = 1_000_000
    first_payload: int = 65_536
    max_message: int = 1_000_000
    attachments: int = 10
    malformed: int = 0
    answer_bytes: int = 131_072
    unsent_bytes: int = 8_000_000
    unsent_frames: int = 50_000
    buffer_bytes: int = 65_536
    reading_bytes: int = 64_000_000
    unconnected: int = 5_000
    unconnected_per_address: int = 1_000
    polling: int = 10_000
    polling_per_address: int = 0
