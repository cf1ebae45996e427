"""Real keys, and a real server of JWKS documents."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)


def public_pem(key) -> str:
    spki = PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(Encoding.PEM, spki).decode()


def private_pem(key) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


class Keys:
    """One private key of each type; ``rsa_2`` is somebody else's."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.rsa_2 = rsa.generate_private_key(65537, 2048)
        self.rsa_weak = rsa.generate_private_key(65537, 1024)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.ed = ed25519.Ed25519PrivateKey.generate()

    pem = staticmethod(public_pem)
    private_pem = staticmethod(private_pem)

    @staticmethod
    def jwk(key, **members) -> dict:
        types = ((rsa.RSAPrivateKey, "RS256"), (ec.EllipticCurvePrivateKey, "ES256"))
        name = next((name for kind, name in types if isinstance(key, kind)), "EdDSA")
        public = jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)
        public.pop("key_ops", None)
        return public | members


class JwksServer:
    """Serves ``body`` with ``status``, counts the requests, and can hold them back at ``gate``.

    Every request releases ``arrived`` once.
    """

    def __init__(self) -> None:
        self.hits = 0
        self.status = 200
        self.body = b""
        self.headers: dict[str, str] = {}
        self.drip: float | None = None
        self.arrived = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    def serve(self, *jwks: object) -> None:
        self.body = json.dumps({"keys": jwks}).encode()

    def stop(self) -> None:
        if self._thread.is_alive():
            self.gate.set()
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.hits += 1
                outer.arrived.release()
                outer.gate.wait(10)
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self._send(outer.body)

            def _send(self, body: bytes) -> None:
                try:
                    if outer.drip is None:
                        self.wfile.write(body)
                        return
                    for byte in body:
                        self.wfile.write(bytes([byte]))
                        time.sleep(outer.drip)
                except ConnectionError:
                    pass  # the client gave up, as the test wants it to

            def log_message(self, *args: object) -> None:
                pass

        return Handler


@pytest.fixture(scope="session")
def keys() -> Keys:
    return Keys()


@pytest.fixture
def jwks_server() -> Iterator[JwksServer]:
    server = JwksServer()
    yield server
    server.stop()
