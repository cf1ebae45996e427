"""Who uses the demo: two workspaces and an administrator, each with a token to sign in with."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt

ADMIN = "admin"
WORKSPACES = ("north", "south")
_LIFETIME = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class User:
    """One user of the demo. The id is the one that the seeded table gives."""

    id: str
    name: str
    workspace_id: str
    roles: tuple[str, ...] = ()


USERS = (
    User("1", "Ann", "north"),
    User("2", "Ben", "north"),
    User("3", "Cleo", "south"),
    User("4", "Ada", "north", (ADMIN,)),
)


class DemoTokens:
    """Signs everybody's token with a secret that lives as long as the process."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(32)

    def sign(self, user: User) -> str:
        """A token that says who this is, and where they belong."""
        now = datetime.now(UTC)
        claims = {
            "sub": user.id,
            "name": user.name,
            "workspace_id": user.workspace_id,
            "roles": list(user.roles),
            "iat": now,
            "exp": now + _LIFETIME,
        }
        return jwt.encode(claims, self.secret, algorithm="HS256")

    def listing(self) -> list[dict[str, object]]:
        """Everybody, with a fresh token: this board has no passwords."""
        return [
            {
                "id": user.id,
                "name": user.name,
                "workspace_id": user.workspace_id,
                "admin": ADMIN in user.roles,
                "token": self.sign(user),
            }
            for user in USERS
        ]
