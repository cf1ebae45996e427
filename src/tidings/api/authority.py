"""Authority: who is asking, by what token, and whether that token still holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from sqlalchemy import Table

from tidings.api import sessions
from tidings.api.identities import Identities
from tidings.api.parts import RevocationOptions
from tidings.api.revocations import SqlRevocations
from tidings.api.sessions import Verifier
from tidings.auth import MemoryRevocations, Revocation, RevocationStore
from tidings.errors import AuthenticationError, ConfigurationError, MissingDependencyError
from tidings.identity import ANONYMOUS, Identity
from tidings.storage import Database
from tidings.values import without_values

_log = logging.getLogger("tidings.auth")
Ended = Callable[[set[str], set[str]], None]
"""Gets the users and the tokens that have been revoked."""


class Authority:
    """Turns tokens into identities, for HTTP and for sockets alike, and revokes them.

    Without a verifier there are no tokens, and everybody is nobody in particular.
    """

    def __init__(self) -> None:
        self.verifier: Verifier | None = None
        self.options: RevocationOptions | None = None
        self.identities: Identities | None = None
        """Where the application says more of somebody than the token does."""
        self.store: RevocationStore | None = None
        """Made when the database is known, where tokens can be revoked."""
        self._is_local = False

    @property
    def leeway(self) -> float:
        """For how long (seconds) tokens are accepted beyond their ``exp``."""
        return sessions.leeway_of(self.verifier)

    @property
    def has_endpoints(self) -> bool:
        """Whether clients may see and end their sessions over HTTP."""
        return self.options is not None and self.options.endpoints

    @property
    def tables(self) -> Sequence[Table]:
        """The table of revoked tokens, for ``create_tables``."""
        return [self.store.table] if isinstance(self.store, SqlRevocations) else []

    def assemble(self, database: Database, *, is_alone: bool) -> None:
        """Make what keeps the revoked tokens; ``is_alone``: there are no other processes."""
        self.store = None if self.options is None else self.options.make(database)
        self._is_local = not is_alone and isinstance(self.store, MemoryRevocations)

    async def open(self, ended: Ended) -> None:
        """Begin to follow what is revoked, here or by another process."""
        if self.store is not None:
            await self.store.open(lambda entries: _tell(entries, ended))

    async def close(self) -> None:
        """Follow it no longer."""
        if self.store is not None:
            await self.store.close()

    async def of_header(self, header: str | None) -> Identity:
        """The identity of an Authorization header.

        Raises:
            AuthenticationError: there is one, and it cannot be accepted.
        """
        if self.verifier is None or header is None:
            return ANONYMOUS
        scheme, _, token = header.partition(" ")
        return await self._of_token(token.strip() if scheme.lower() == "bearer" else "")

    async def of_socket(self, token: object, *, anonymous: bool) -> Identity:
        """The identity of a socket; ``anonymous`` lets those without a token in.

        Raises:
            AuthenticationError: the token cannot be accepted, or there is none.
        """
        if self.verifier is None or (anonymous and token is None):
            return ANONYMOUS
        return await self._of_token(token)

    async def identify(self, identity: Identity) -> Identity:
        """The identity as the application knows it now.

        Raises:
            AuthenticationError: it is not to be accepted any more.
            IdentityUnavailable: the application does not say.
        """
        if self.identities is None or not identity.is_authenticated:
            return identity
        return await self.identities.load(identity)

    def forget_identities(self) -> None:
        """Ask the application anew from now on."""
        if self.identities is not None:
            self.identities.forget()

    def is_revoked(self, identity: Identity) -> bool:
        """Whether the identity's token has been revoked, or nobody can tell."""
        try:
            return self.store is not None and self.store.is_revoked(identity)
        except Exception as error:  # noqa: BLE001  a store of the application's: what cannot be told denies
            _log.error(
                "the revocation store failed, so that a token is taken for revoked",
                exc_info=without_values(error),
            )
            return True

    async def log_out(self, identity: Identity) -> None:
        """Revoke the identity's own token."""
        await self._revoke(sessions.of_identity(identity, self.leeway))

    async def revoke(
        self,
        token: str | None,
        jti: str | None,
        expires_at: float | None,
        user_id: str | int | None,
        issued_before: float | None,
    ) -> None:
        """Revoke a token, or those of a user; see `Api.revoke`."""
        if [token, jti, user_id].count(None) != 2:
            raise ConfigurationError("revoke() takes one of token=, jti= and user_id=")
        if self.options is None or self.verifier is None:
            raise MissingDependencyError("revoke() needs JWTAuthPlugin(revocation=...): use it")
        lifetime = self.options.max_lifetime
        if jti is not None:
            await self._revoke(sessions.of_id(jti, expires_at, self.leeway, lifetime))
        elif user_id is not None:
            user = str(user_id)
            await self._revoke(sessions.of_user(user, issued_before, self.leeway, lifetime))
        else:
            try:
                identity = await self.verifier.verify(token)
            except AuthenticationError as error:
                if error.code == "TOKEN_EXPIRED":
                    return
                raise
            await self.log_out(identity)

    async def _of_token(self, token: object) -> Identity:
        assert self.verifier is not None
        identity = await self.verifier.verify(token)
        if self.is_revoked(identity):
            raise AuthenticationError("Token revoked", code="TOKEN_REVOKED")
        return await self.identify(identity)

    async def _revoke(self, entry: Revocation) -> None:
        assert self.store is not None  # there are options for it
        if self._is_local:
            _log.warning(
                "a token is revoked in this process only: the others accept it, unless you use "
                "JWTAuthPlugin(revocation='database')"
            )
        await self.store.revoke(entry)


def _tell(entries: Sequence[Revocation], ended: Ended) -> None:
    users = {entry.user_id for entry in entries if entry.user_id is not None}
    tokens = {entry.token_id for entry in entries if entry.token_id is not None}
    ended(users, tokens)
