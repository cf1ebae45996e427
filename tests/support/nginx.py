"""A private nginx, with what a page of the documentation says that goes into its ``http`` block.

with nginx(configuration, {"80": 8080, "127.0.0.1:8001": 41001}) as port: ...
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.databases import MissingServer
from tests.support.server import REPOSITORY, START_TIMEOUT, free_port

# Not everybody has those of root in their path; the last is where scripts/install-nginx puts it.
_PLACES = os.pathsep.join(
    [
        os.environ.get("PATH", ""),
        "/usr/sbin",
        "/usr/local/sbin",
        str(REPOSITORY / ".venv/nginx/usr/sbin"),
    ]
)

_MAIN = """
daemon off;
pid nginx.pid;
error_log stderr warn;
worker_processes 1;
{user}
events {{ worker_connections 2048; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {http}
}}
"""


def program() -> str:
    """Where nginx is.

    Raises:
        MissingServer: it is not installed.
    """
    found = shutil.which("nginx", path=_PLACES)
    if found is None:
        raise MissingServer("needs nginx: run scripts/install-nginx or install the package 'nginx'")
    return found


@contextmanager
def nginx(documented: str, upstreams: Sequence[int], directory: Path) -> Iterator[int]:
    """Run it in a directory; gives the port. ``upstreams`` take the place of 8001, 8002 and so on.

    Raises:
        MissingServer: nginx is not installed.
    """
    port = free_port()
    path = directory / "nginx.conf"
    path.write_text(_filled_in(documented, port, upstreams))
    log = directory / "nginx.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program(), "-p", str(directory), "-c", str(path), "-e", "stderr"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(directory / "nginx.pid", process, log)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _filled_in(documented: str, port: int, upstreams: Sequence[int]) -> str:
    changes = {"listen 80;": f"listen 127.0.0.1:{port};"}
    changes |= {f"127.0.0.1:{8001 + n};": f"127.0.0.1:{port};" for n, port in enumerate(upstreams)}
    for old, new in changes.items():
        if documented.count(old) != 1:
            raise ValueError(f"{old!r} is there {documented.count(old)} times")
        documented = documented.replace(old, new)
    return _MAIN.format(http=documented, user="user root;" if os.geteuid() == 0 else "")


def _wait(pid: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not (pid.exists() and pid.read_text().strip()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"nginx did not start\n{log.read_text()}")
        time.sleep(0.01)
