"""A server whose system buffers are small, so that a client that stops reading is soon noticed.

python -m benchmarks.narrow <app> <port>
"""

from __future__ import annotations

import socket
import sys

import uvicorn

_BUFFER = 16_384


def main(app: str, port: int) -> None:
    """Serve ``benchmarks.apps.<app>``."""
    # With the protocol named, asyncio turns Nagle off.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)  # those accepted, too
        listener.bind(("127.0.0.1", port))
        config = uvicorn.Config(
            f"benchmarks.apps.{app}:app",
            log_level="warning",
            access_log=False,
            ws_per_message_deflate=False,
            ws_ping_interval=None,
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
