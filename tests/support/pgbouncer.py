"""A private PgBouncer in front of a private PostgreSQL.

with pgbouncer(url, "session", ignore_startup_parameters="jit") as its_url: ...
"""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from signal import SIGINT

from sqlalchemy import make_url

from tests.support.databases import MissingServer, _directory, _server
from tests.support.server import REPOSITORY, START_TIMEOUT, free_port

_UNPACKED = REPOSITORY / ".venv/pgbouncer"
# Not everybody has those of root in their path; scripts/install-pgbouncer puts it into the last.
_PLACES = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", str(_UNPACKED / "usr/sbin")]
)


def program() -> list[str]:
    """How PgBouncer is started.

    Raises:
        MissingServer: it is not installed.
    """
    found = shutil.which("pgbouncer", path=_PLACES)
    if found is None:
        raise MissingServer(
            "needs PgBouncer: run scripts/install-pgbouncer or install the package 'pgbouncer'"
        )
    libraries = os.pathsep.join(glob(str(_UNPACKED / "usr/lib/*")))
    return ["env", f"LD_LIBRARY_PATH={libraries}", found]


@contextmanager
def pgbouncer(url: str, mode: str, **settings: str) -> Iterator[str]:
    """Run it in front of a database; gives the URL of the same database by way of it.

    Raises:
        MissingServer: it is not installed.
    """
    command = program()
    behind, port = make_url(url), free_port()
    where = f"host={behind.host} port={behind.port} user={behind.username}"
    options = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": mode,
        "default_pool_size": "20",
        "max_client_conn": "100",
        **settings,
    }
    lines = ["[databases]", f"* = {where} password={behind.password}", "[pgbouncer]"]
    lines += [f"{name} = {value}" for name, value in options.items()]
    with _directory() as directory:
        path = directory / "pgbouncer.ini"
        path.write_text("\n".join(lines))
        path.chmod(0o644)
        with _server([*command, str(path)], directory, SIGINT) as (process, log):
            deadline = time.monotonic() + START_TIMEOUT
            while not _is_listening(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PgBouncer did not start\n{log.read_text()}")
                time.sleep(0.02)
            yield behind.set(port=port).render_as_string(hide_password=False)


def _is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
