"""Clients that follow: their list, kept by notifications alone, is held against the database's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.realtime.kit import SECRET, delivered, spoken
from tidings import Api, Identity, JWTAuthPlugin, RestApiPlugin, SocketIOPlugin, SqlAlchemyPlugin
from tidings.realtime.messages import Event
from tidings.realtime.subscriptions import Message, Subscriber, Subscription

MANY = {"type": "hasMany"}


def make_blog(url: str, *, constraint: bool = True, create_tables: bool = True) -> Api:
    """Posts in categories (with parents), by authors of companies, with comments and tags."""

    def to(target: str) -> dict[str, Any]:
        return {"belongs_to": target, "constraint": constraint}

    def many(target: str, key: str) -> dict[str, Any]:
        return {"type": "hasMany", "target": target, "foreign_key": key}

    api = Api(name="blog")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin(url, create_tables=create_tables))
    api.use(JWTAuthPlugin(secret=SECRET))
    api.use(SocketIOPlugin())
    api.add_resource("companies", schema={"name": "string"})
    api.add_resource(
        "authors",
        schema={"name": "string", "age": "integer", "company_id": to("companies")},
        relationships={"posts": many("posts", "author_id")},
        search_schema={"post_title": {"actual_field": "posts.title"}},
    )
    api.add_resource("categories", schema={"name": "string", "parent_id": to("categories")})
    api.add_resource(
        "posts",
        schema={
            "title": "string",
            "status": "string",
            "author_id": to("authors"),
            "category_id": to("categories"),
        },
        relationships={
            "comments": many("comments", "post_id"),
            "tags": many("tags", "post_id"),
        },
        search_schema={
            "status": "string",
            "category": {"actual_field": "category.name"},
            "not_category": {"actual_field": "category.name", "filter_operator": "!="},
            "parent": {"actual_field": "category.parent.name"},
            "author": {"actual_field": "author.name", "filter_operator": "like"},
            "age": {"actual_field": "author.age", "filter_operator": ">"},
            "company": {"actual_field": "author.company.name", "filter_operator": "in"},
            "comment": {"actual_field": "comments.state"},
            "comments": {
                "actual_field": "comments.state",
                "filter_operator": "in",
                "match_all": True,
            },
            "commenter": {"actual_field": "comments.author.name"},
            "tag": {"actual_field": "tags.name", "filter_operator": "between"},
            "beside": {"actual_field": "author.posts.status"},
            "named": {"one_of": ["author.name", "category.name"]},
        },
    )
    api.add_resource(
        "comments",
        schema={"state": "string", "post_id": to("posts"), "author_id": to("authors")},
        search_schema={
            "state": "string",
            "post_status": {"actual_field": "post.status"},
            "sibling": {"actual_field": "post.comments.state"},
        },
    )
    api.add_resource("tags", schema={"name": "string", "post_id": to("posts")})

    @api.hook("subscription_filters")
    def clauses(context: Any) -> None:
        for clause in context.auth.claims.get("clauses", []):
            context.subscription.require(_written(clause))

    return api


def _written(value: Any) -> Any:
    """A clause as code would write it: what a claim holds is a value, and no clause."""
    if isinstance(value, dict):
        return {name: _written(item) for name, item in value.items()}
    return [_written(item) for item in value] if isinstance(value, list) else value


@dataclass
class Follower:
    """A client of one subscription; ``ids`` is the list that it keeps."""

    api: Api
    resource: str
    filters: Mapping[str, Any]
    where: Mapping[str, Any] | None = None
    ids: set[str] = field(default_factory=set)
    frames: list[Event] = field(default_factory=list)
    resyncs: int = 0
    told: int = 0

    def send(self, event: Event) -> None:
        self.frames.append(event)

    def notify(self, subscription: Subscription, message: Message) -> None:
        self.send(message.event(subscription))

    def forget(self) -> None:
        pass

    async def start(self) -> Follower:
        claims = {"clauses": [] if self.where is None else [self.where]}
        subscriber = Subscriber("s", Identity(user_id="u", claims=claims), self)
        request = {"resource": self.resource, "filters": dict(self.filters)}
        await self.api.socket_server._service.subscribe(subscriber, request)
        self.ids = await self.truth()
        return self

    async def truth(self) -> set[str]:
        """What the same filter gives as SQL."""
        found = await self.api.resources[self.resource].query(
            self.filters, where=self.where, size=10_000
        )
        return {record["id"] for record in found}

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What has come."""
        return [spoken(event) for event in self.frames]

    async def follow(self) -> None:
        """Take in what has come, strictly: nothing enters that is in, or leaves that is not."""
        packets = self.events()
        self.frames.clear()
        strict = all(event == "subscription.update" for event, _ in packets)
        for event, payload in packets:
            if event == "subscription.resync":
                assert payload["reason"] == "bulk"
                self.resyncs += 1
                self.ids = await self.truth()
                continue
            self.told += 1
            way, found = payload["meta"]["change"], payload["id"]
            assert not strict or (found in self.ids) == (way != "enter"), (self, payload)
            if way == "leave":
                self.ids.discard(found)
            else:
                self.ids.add(found)

    async def check(self) -> None:
        """Take in what has come, and be right."""
        await self.follow()
        truth = await self.truth()
        assert self.ids == truth, (
            f"{self.resource} {dict(self.filters)} {self.where}: has {self.ids}, true is {truth}"
        )


async def check_all(followers: list[Follower]) -> None:
    """Every client's list is right after what was committed."""
    await delivered(followers[0].api)
    for follower in followers:
        await follower.check()


async def watch_all(api: Api) -> list[Follower]:
    """Followers of every kind of filter through relationships."""
    watched: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
        ("posts", {}, None),
        ("posts", {"status": "x"}, None),
        *(("posts", {"category": name}, None) for name in ("a", "b", None)),
        ("posts", {"not_category": "a"}, None),
        ("posts", {"not_category": None}, None),
        ("posts", {"parent": "a"}, None),
        ("posts", {"parent": None}, None),
        ("posts", {"author": "a"}, None),
        ("posts", {"author": "B", "category": "a"}, None),
        ("posts", {"age": 1}, None),
        ("posts", {"company": ["a", "c"]}, None),
        ("posts", {"company": ["b"], "status": "x"}, None),
        *(("posts", {"comment": name}, None) for name in ("a", "b", None)),
        ("posts", {"comments": ["a", "b"]}, None),
        ("posts", {"comment": "a", "category": "a"}, None),
        *(("posts", {"commenter": name}, None) for name in ("a", None)),
        ("posts", {"tag": ["a", "b"]}, None),
        ("posts", {"tag": ["b", "c"], "comment": "a"}, None),
        ("posts", {"beside": "x"}, None),
        ("posts", {"named": "a"}, None),
        ("posts", {}, {"$not": {"comments.state": "a"}}),
        ("posts", {}, {"$not": {"category.name": "a"}}),
        ("posts", {}, {"$or": [{"tags.name": {">": "b"}}, {"author.company.name": "a"}]}),
        ("authors", {"post_title": "a"}, None),
        ("comments", {"post_status": "x"}, None),
        ("comments", {"sibling": "a"}, None),
        ("comments", {"sibling": "b", "state": "a"}, None),
        ("categories", {}, None),
    ]
    return [await Follower(api, *one).start() for one in watched]
