"""Settings: what works, but should not go into production."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from tidings.api import Api
from tidings.api.internals import Internals
from tidings.auth import TokenVerifier
from tidings.diagnosis.finding import Finding, Findings, failed, ok, reason, warning
from tidings.errors import KeysUnavailable
from tidings.realtime import Origins

FILES: Final = 4096
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


async def check_keys(internals: Internals, seconds: float) -> Findings:
    """The keys that tokens are verified with."""
    verifier = internals.authority.verifier
    if verifier is None:
        yield warning("tokens", "nobody's token is verified: everybody is anonymous")
        return
    if not isinstance(verifier, TokenVerifier):
        return
    if verifier.has_guessable_secret:
        make = "make one with: openssl rand -hex 32"
        yield warning("tokens", "the secret looks thought up: who guesses it is anybody", make)
    client = verifier.jwks
    if client is None:
        return
    parts = urlsplit(client.shown_url)
    if parts.scheme != "https" and parts.hostname not in _LOCAL:
        message = f"{client.shown_url} is not https: keys can be replaced on the way"
        yield warning("jwks", message, "use its https address")
    try:
        count = await client.check()
    except KeysUnavailable as error:
        message = f"{client.shown_url}: {reason(error, seconds)}"
        yield failed("jwks", message, "see jwks_url, and that this machine may reach it")
        return
    if not count:
        yield failed("jwks", f"{client.shown_url} has no key that can verify a signature")
    else:
        yield ok("jwks", f"{client.shown_url} has {count} usable keys")


def check_settings(api: Api, internals: Internals) -> Iterator[Finding]:
    """What else is set."""
    options = internals.socket_options
    if options is None:
        yield warning("sockets", "no SocketIOPlugin is in use: nobody is told of changes")
    elif Origins(options.cors).allows_any:
        advice = "name yours: SocketIOPlugin(cors={'origin': ['https://example.org']})"
        yield warning("origin", "sockets are open to pages of any origin", advice)
    limit = _open_files()
    if limit is not None and limit < FILES:
        advice = "raise it for the server: ulimit -n 65536, or LimitNOFILE= of systemd"
        yield warning("files", f"at most {limit} may be open, and each socket is one", advice)


def _open_files() -> int | None:
    try:
        import resource
    except ImportError:  # there is no such limit on Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
