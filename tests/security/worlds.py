"""Apis with policies of every kind, users, and the subscriptions that they hold without a network.

What somebody may see here depends on the record, on the token, on grants, on memberships and on
related records; and all of it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.realtime.kit import SECRET, spoken
from tidings import (
    ANONYMOUS,
    Api,
    Identity,
    JWTAuthPlugin,
    OperationContext,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
    SubscriptionContext,
    policies,
)
from tidings.errors import TidingsError
from tidings.realtime.messages import Event
from tidings.realtime.subscriptions import Message, Subscriber, Subscription

STATES = ("draft", "open", "Open", "done", "")
TENANTS = (1, 2, 3)
PEOPLE = ("ann", "ben", "cy", "dee", "eve")
FILTERS: dict[str, list[dict[str, Any]]] = {
    "teams": [{}, {"name": "a"}, {"tenant": 1}],
    "notes": [
        {},
        {"state": "open"},
        {"tenant": 1},
        {"tenant": 2, "state": "draft"},
        {"not_tenant": 1},
        {"views": 5},
        {"text": "o"},
        {"remark": "a"},
    ],
    "docs": [{}, {"state": "open"}, {"owner": "ann"}, {"owners": ["ben", "cy"]}, {"views": 3}],
    "items": [{}, {"state": "done"}, {"between": [2, 6]}, {"custom": 4}],
    "tasks": [{}, {"team": "a"}, {"not_team": "a"}, {"lead": "ann"}, {"state": "open"}],
    "files": [{}, {"state": "open"}, {"owner": "ben"}],
    "rooms": [{}, {"state": "open"}, {"number": 3}],
    "groups": [{}, {"name": "a"}],
    "seats": [{}],
    "papers": [{}, {"state": "open"}, {"group": "a"}],
}
COMMON = {
    "state": {"type": "string"},
    "views": {"type": "integer", "default": 0},
    "owner_id": {"type": "string"},
    "tenant_id": {"type": "integer"},
    "is_public": {"type": "boolean", "default": False},
}
SEARCH: dict[str, Any] = {
    "state": {"type": "string"},
    "tenant": {"type": "integer", "actual_field": "tenant_id"},
    "not_tenant": {"type": "integer", "actual_field": "tenant_id", "filter_operator": "!="},
    "views": {"type": "integer", "filter_operator": ">"},
    "between": {"type": "integer", "actual_field": "views", "filter_operator": "between"},
    "text": {"type": "string", "actual_field": "state", "filter_operator": "like"},
    "owner": {"type": "string", "actual_field": "owner_id"},
    "owners": {"type": "array", "actual_field": "owner_id", "filter_operator": "in"},
    "custom": {
        "type": "integer",
        "filter_operator": lambda columns, value: (columns.views > value) | columns.is_public,
    },
}


@dataclass
class Rights:
    """What permissions, policies and hooks go by beside the token; it changes all the time."""

    grants: set[tuple[str | None, str]] = field(default_factory=set)
    """Who may query which resource at all."""
    rooms: dict[str | None, tuple[int, ...]] = field(default_factory=dict)
    """The rooms that somebody is a member of."""
    clauses: dict[str | None, dict[str, Any]] = field(default_factory=dict)
    """What a hook requires of somebody's subscriptions to docs."""


def make_api(rights: Rights) -> Api:
    """An api whose every resource is guarded in another way."""
    api = Api(name="guarded")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin(permission_seconds=0))

    def granted(context: OperationContext) -> bool:
        return context.method != "query" or (context.auth.user_id, context.resource) in (
            rights.grants
        )

    def of_level(columns: Any, identity: Any) -> Any:
        return (columns.owner_id == identity.user_id) | (columns.views <= identity.level)

    def in_rooms(columns: Any, identity: Any) -> Any:
        return columns.views.in_(rights.rooms.get(identity.user_id, ()))

    def is_admin(identity: Identity) -> bool:
        return identity.has_role("admin")

    def member(path: str) -> dict[str, Any]:
        return {
            "row_policy": lambda columns, identity: {path: identity.user_id},
            "borrows": [path],
        }

    tenant = policies.tenant("tenant_id")
    api.add_resource(
        "teams",
        {"name": "string", "lead_id": "string", "tenant_id": "integer"},
        search_schema={"name": "string", "tenant": SEARCH["tenant"]},
        row_policy=policies.either(tenant, policies.role("admin")),
    )
    api.add_resource(
        "notes",
        COMMON,
        search_schema={**SEARCH, "remark": {"actual_field": "remarks.word"}},
        relationships={
            "remarks": {"type": "hasMany", "target": "remarks", "foreign_key": "note_id"}
        },
        row_policy=tenant,
        client_ids=True,
    )
    api.add_resource("remarks", {"word": "string", "note_id": {"belongs_to": "notes"}})
    api.add_resource(
        "docs",
        {**COMMON, "grade": {"type": "integer", "readable_by": is_admin}},
        search_schema=SEARCH,
        row_policy=policies.either(
            policies.owner("owner_id"), policies.public("is_public"), policies.role("admin", "aid")
        ),
    )
    api.add_resource("items", COMMON, search_schema=SEARCH, row_policy={"*": of_level})
    api.add_resource(
        "tasks",
        {"state": "string", "team_id": {"belongs_to": "teams"}},
        search_schema={
            "state": "string",
            "team": {"actual_field": "team.name"},
            "not_team": {"actual_field": "team.name", "filter_operator": "!="},
            "lead": {"actual_field": "team.lead_id"},
        },
        row_policy=policies.either(
            lambda columns, identity: {"team.lead_id": identity.user_id},
            lambda columns, identity: {"state": "open", "id": {">": -len(identity.user_id)}},
            policies.role("admin"),
        ),
        borrows=["team.lead_id"],
    )
    api.add_resource(
        "files",
        COMMON,
        search_schema=SEARCH,
        row_policy=policies.either(tenant, policies.owner()),
        check_permissions=granted,
    )
    api.add_resource(
        "rooms",
        COMMON,
        search_schema={**SEARCH, "number": {"type": "integer", "actual_field": "views"}},
        row_policy=in_rooms,
        check_permissions=granted,
    )

    api.add_resource(
        "groups",
        {"name": "string"},
        search_schema={"name": "string"},
        relationships={
            "seats": {"type": "hasMany", "target": "seats", "foreign_key": "group_id"},
            "papers": {"type": "hasMany", "target": "papers", "foreign_key": "group_id"},
        },
        **member("seats.user_id"),
    )
    api.add_resource(
        "seats",
        {"user_id": "string", "group_id": {"belongs_to": "groups"}},
        row_policy=policies.owner("user_id"),
    )
    api.add_resource(
        "papers",
        {"state": "string", "group_id": {"belongs_to": "groups"}},
        search_schema={"state": "string", "group": {"actual_field": "group.name"}},
        **member("group.seats.user_id"),
    )

    @api.hook("subscription_filters")
    def narrowed(context: SubscriptionContext) -> None:
        if context.subscription.resource == "docs":
            clause = rights.clauses.get(context.auth.user_id)
            if clause is not None:
                context.subscription.require(clause)

    return api


GUARDED = ("files", "rooms")


@dataclass(eq=False)
class User:
    """Somebody with a token, a socket, and what has come over it."""

    identity: Identity
    subscriber: Subscriber
    frames: list[Event] = field(default_factory=list)

    def send(self, event: Event) -> None:
        self.frames.append(event)

    def notify(self, subscription: Subscription, message: Message) -> None:
        self.send(message.event(subscription))

    def forget(self) -> None:
        pass

    def finish(self, last: Any, *, for_good: bool = False) -> None:
        raise AssertionError("nobody is to be disconnected")

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        """The events that have come since last time."""
        found = [spoken(event) for event in self.frames]
        self.frames.clear()
        return found


@dataclass(eq=False)
class Watch:
    """One subscription; ``is_on`` is False while it is refused."""

    user: User
    name: str
    resource: str
    filters: Mapping[str, Any]
    is_on: bool = False
    believed: frozenset[str] = frozenset()
    """What its client would have fetched when it was last told to."""


def identities(r: Random) -> list[Identity]:
    """Members of tenants, some of them in two, those who belong nowhere, and nobody."""
    found = [
        Identity(user_id="root", roles=frozenset({"admin"}), claims={"tenant_id": 1, "level": 3}),
        Identity(user_id="aid", roles=frozenset({"aid"}), claims={"level": 9}),
        Identity(user_id="lost", claims={"tenant_id": None}),
        ANONYMOUS,
    ]
    for name in PEOPLE:
        claims: dict[str, Any] = {"tenant_id": r.choice(TENANTS)}
        if r.random() < 0.7:
            claims["level"] = r.randint(0, 8)
        if r.random() < 0.2:
            claims["tenant_id"] = str(claims["tenant_id"])
        found.append(Identity(user_id=name, claims=claims))
    return found


def random_values(r: Random, resource: str, ids: Mapping[str, list[str]]) -> dict[str, Any]:
    """Some fields of a record, as somebody would write them."""
    pick: dict[str, Callable[[], Any]] = {
        "state": lambda: r.choice([*STATES, "open", None]),
        "views": lambda: r.choice([*range(9), 9, None]),
        "owner_id": lambda: r.choice([*PEOPLE, "aid", None]),
        "tenant_id": lambda: r.choice([*TENANTS, *TENANTS, None]),
        "is_public": lambda: r.random() < 0.3,
    }
    if resource == "teams":
        pick = {
            "name": lambda: r.choice(("a", "a", "b", "A", None)),
            "lead_id": lambda: r.choice([*PEOPLE, None]),
            "tenant_id": pick["tenant_id"],
        }
    elif resource == "tasks":
        pick = {
            "state": pick["state"],
            "team_id": lambda: r.choice([*ids["teams"], None]),
        }
    elif resource == "remarks":
        pick = {
            "word": lambda: r.choice(("a", "b", None)),
            "note_id": lambda: r.choice([*ids["notes"], None]),
        }
    elif resource == "groups":
        pick = {"name": lambda: r.choice(("a", "a", "b", None))}
    elif resource == "seats":
        pick = {
            "user_id": lambda: r.choice([*PEOPLE, *PEOPLE, None]),
            "group_id": lambda: r.choice([*ids["groups"], *ids["groups"], None]),
        }
    elif resource == "papers":
        pick = {
            "state": pick["state"],
            "group_id": lambda: r.choice([*ids["groups"], *ids["groups"], None]),
        }
    names = [name for name in pick if r.random() < 0.6] or [r.choice(list(pick))]
    return {name: pick[name]() for name in names}


def may_read(
    resource: str,
    row: Mapping[str, Any],
    identity: Identity,
    rights: Rights,
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> bool:
    """The policies once more, in plain words: REST itself is to be right, too. ``tables`` has the
    rows of teams and of seats.
    """
    user, claims = identity.user_id, identity.claims
    tenant, level = claims.get("tenant_id"), claims.get("level")
    is_own = user is not None and row.get("owner_id") == user
    of_tenant = tenant is not None and row.get("tenant_id") == int(tenant)
    is_granted = (user, resource) in rights.grants
    match resource:
        case "teams":
            return of_tenant or "admin" in identity.roles
        case "notes":
            return of_tenant
        case "docs":
            return bool(is_own or row["is_public"] or identity.roles & {"admin", "aid"})
        case "items":
            views = row["views"]
            is_low = level is not None and views is not None and views <= level
            return user is not None and level is not None and (is_own or is_low)
        case "tasks":
            team = tables["teams"].get(str(row["team_id"]), {})
            if user is None:
                return False
            leads = team.get("lead_id") == user
            return leads or row["state"] == "open" or "admin" in identity.roles
        case "files":
            return is_granted and (of_tenant or is_own)
        case "rooms":
            return is_granted and user is not None and row["views"] in rights.rooms.get(user, ())
        case "groups" | "papers":
            group = row["id"] if resource == "groups" else row["group_id"]
            seats = tables["seats"].values()
            mine = {str(seat["group_id"]) for seat in seats if seat["user_id"] == user}
            return user is not None and group is not None and str(group) in mine
        case "seats":
            return user is not None and row["user_id"] == user
    raise AssertionError(resource)


REFUSALS = TidingsError
