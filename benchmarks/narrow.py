"""A server for clients that stop reading: small buffers of the system, and endless patience.

python -m benchmarks.narrow <app> <port>
"""

from __future__ import annotations

import socket
import sys
from importlib import import_module

import uvicorn

_BUFFER = 16_384
_PATIENCE = 600
"""Seconds; who does not answer a ping for 20 would be disconnected else."""


def main(app: str, port: int) -> None:
    """Serve ``benchmarks.apps.<app>``."""
    # With the protocol named, asyncio turns Nagle off.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)  # those accepted, too
        listener.bind(("127.0.0.1", port))
        module = import_module(f"benchmarks.apps.{app}")
        module.api.socket_server.io.options.ping_timeout = _PATIENCE
        config = uvicorn.Config(
            module.app,
            log_level="warning",
            access_log=False,
            ws_per_message_deflate=False,
            ws_ping_interval=None,
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
