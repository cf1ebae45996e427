"""Where and how to serve."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from typing import Any, Final

import click
import uvicorn
from uvicorn.importer import import_from_string
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from tidings.serving.listening import BACKLOG, refusing

GRACE: Final = 3
"""Seconds that open connections have when the server stops."""
SOCKETS: Final = "tidings.socketio.uvicorn:UvicornProtocol"
"""What serves WebSockets: those of Socket.IO without a task for each."""
PATIENCE: Final = 30.0
"""Seconds that the event loop of a worker may stand still, by default."""
_KEEP_ALIVE: Final = 75
"""Longer than proxies keep a connection that is idle."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where and how to serve. ``uds`` is the path of a Unix socket, instead of host and port."""

    host: str = "127.0.0.1"
    port: int = 8000
    uds: str | None = None
    root_path: str = ""
    log_level: str = "warning"
    access_log: bool = False
    certificate: str | None = None
    """The file of a TLS certificate, with ``key`` that of its private key."""
    key: str | None = None
    key_password: str | None = None
    proxies: str | None = None
    """The addresses whose ``X-Forwarded-For`` is believed; None leaves it to uvicorn."""
    patience: float = PATIENCE
    """Seconds that the event loop of a worker may stand still before it is killed; 0: for ever."""

    def arguments(self) -> list[str]:
        """What tells a worker the same; where to listen it is given.

        The password is not in it: whoever may list processes would see it.
        """
        found = ["--log-level", self.log_level, "--root-path", self.root_path]
        found.append("--access-log" if self.access_log else "--no-access-log")
        if self.certificate is not None and self.key is not None:
            found += ["--ssl-certfile", self.certificate, "--ssl-keyfile", self.key]
        if self.proxies is not None:
            found += ["--forwarded-allow-ips", self.proxies]
        return found

    def check_certificate(self) -> None:
        """Read the certificate and its key, before anything is started.

        Raises:
            ClickException: they cannot be used.
        """
        if self.certificate is None or self.key is None:
            return
        # Without any password OpenSSL would ask the terminal for it.
        password = self.key_password or ""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate, self.key, password)
        except ssl.SSLError as error:
            raise click.ClickException(
                f"{self.certificate} and the key {self.key} cannot be used for TLS"
                f"{f' ({error.reason})' if error.reason else ''}: both must be PEM files, the key "
                "that of the certificate; an encrypted one needs --ssl-keyfile-password"
            ) from None
        except OSError as error:
            raise click.ClickException(
                f"cannot read {self.certificate} and {self.key}: {error.strerror}"
            ) from None

    def config(self, app: Any) -> uvicorn.Config:
        """What uvicorn is to do."""
        found = uvicorn.Config(
            app,
            http=refusing(AutoHTTPProtocol),
            lifespan="on",
            log_level=self.log_level,
            access_log=self.access_log,
            root_path=self.root_path,
            ssl_certfile=self.certificate,
            ssl_keyfile=self.key,
            ssl_keyfile_password=self.key_password,
            forwarded_allow_ips=self.proxies,
            timeout_graceful_shutdown=GRACE,
            timeout_keep_alive=_KEEP_ALIVE,
            ws=import_from_string(SOCKETS),  # older versions of uvicorn take no name here
            ws_per_message_deflate=False,
            backlog=BACKLOG,
        )
        if self.access_log:  # whatever else is not to be said
            logging.getLogger("uvicorn.access").setLevel(logging.INFO)
        return found
