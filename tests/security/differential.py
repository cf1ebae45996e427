"""What subscribers are told of each commit, held against what REST gives them before and after it.

REST is the oracle: ``api.resources.X.query(filters, auth=user)``, where being refused means to see
nothing. ``enter`` must come where a record was not among the results and is, ``update`` where it
was and is and has itself been written, ``leave`` where it was and is not; and nothing else. A
resync stands for any difference.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import jwt

from tests.realtime.kit import SECRET, delivered
from tests.security.worlds import (
    FILTERS,
    GUARDED,
    REFUSALS,
    Rights,
    User,
    Watch,
    identities,
    make_api,
    may_read,
    random_values,
)
from tidings import TRUSTED, Api, AuthenticationError, PermissionDenied
from tidings.feed import Change
from tidings.identity import Asker
from tidings.realtime.subscriptions import Subscriber
from tidings.resources import Draft, Members

MOST_RECORDS = 14
RESOURCES = (*FILTERS, "remarks")
TOUCHED = {
    "teams": ("teams", "tasks"),
    "remarks": ("remarks", "notes"),
    "groups": ("groups", "papers"),
    "seats": ("seats", "groups", "papers"),
}
"""Whose subscriptions a write of a resource may concern, where it is not only its own."""
Told = Mapping[str, Sequence[str]]


@dataclass
class Tally:
    """What has been decided, and what was wrong."""

    decisions: int = 0
    commits: int = 0
    queries: int = 0
    seconds: float = 0.0
    told: Counter[str] = field(default_factory=Counter)
    disagreements: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.decisions += other.decisions
        self.commits += other.commits
        self.queries += other.queries
        self.seconds += other.seconds
        self.told.update(other.told)
        self.disagreements += other.disagreements


class RolledBack(Exception):
    """Ends a transaction or a savepoint that is not to be."""


class Prover:
    """One world, made from a seed: its api, users and subscriptions, and what happens there."""

    def __init__(self, seed: str, *, sockets: int = 3) -> None:
        self.seed = seed
        self.r = Random(seed)
        self.rights = Rights()
        self.api: Api = make_api(self.rights)
        self.tally = Tally()
        self.users: list[User] = []
        self.watches: list[Watch] = []
        self.visible: dict[Any, frozenset[str]] = {}
        self.ids: dict[str, list[str]] = {name: [] for name in RESOURCES}
        self._sockets = sockets
        self._step = ""
        self._focus: list[str] = []
        """What is written next: that whose rights have just changed."""

    async def run(self, steps: int, *, until: str | None = None) -> Tally:
        """So many random steps, each of them checked; or until something of a kind is found."""
        started = time.perf_counter()
        async with self.api:
            self._grow_limits()
            await self._populate()
            for number in range(steps):
                await self._random_step(number)
                if until is not None and any(until in one for one in self.tally.disagreements):
                    return self.tally
            await self._check_nothing_else_changed()
        self.tally.seconds = time.perf_counter() - started
        return self.tally

    # Making

    def _grow_limits(self) -> None:
        """In some worlds few related records are too many, so that clients are told to refetch."""
        if self.r.random() < 0.25:
            effects = self.api._assembled.operations.effects
            effects.max_touched, effects.max_values = self.r.randint(1, 3), 2

    async def _populate(self) -> None:
        r, server = self.r, self.api.socket_server
        for resource in RESOURCES:
            for _ in range(r.randint(2, 6)):
                with suppress(*self._refusals):
                    await self._write(resource, None, TRUSTED, "post")
        found = identities(r)
        for identity in found:
            self.rights.grants |= {(identity.user_id, name) for name in GUARDED if r.random() < 0.7}
            self._change_rights_of(identity.user_id)
            chosen = {
                name: [{}, *r.sample(filters[1:], min(2, len(filters) - 1))]
                for name, filters in FILTERS.items()
            }
            for number in range(self._sockets):
                name = f"{identity.user_id}-{number}"
                user = User(identity, None)  # type: ignore[arg-type]
                user.subscriber = Subscriber(name, identity, user)
                server._subscribers[name] = user.subscriber
                server._sessions.add(user.subscriber)
                self.users.append(user)
                for resource, several in chosen.items():
                    for filters in several:
                        label = f"{resource}-{len(self.watches)}"
                        self.watches.append(Watch(user, label, resource, filters))
        await delivered(self.api)
        await self._look(FILTERS)
        await self._resubscribe(1.0)

    _refusals: tuple[type[Exception], ...] = (REFUSALS,)

    # Looking

    async def _look(self, resources: Iterable[str], *users: str | None) -> None:
        """Ask REST what everybody, or only these users, see of these resources now."""
        wanted = set(resources)
        asked: set[Any] = set()
        for watch in self.watches:
            if watch.resource not in wanted:
                continue
            if users and watch.user.identity.user_id not in users:
                continue
            key = self._key(watch)
            if key not in asked:
                asked.add(key)
                self.visible[key] = await self._rest(watch)
        tables: dict[str, dict[str, Any]] = {}
        for name in wanted | {"teams", "seats"}:
            found = await self.api.resources[name].query(size=1000)
            tables[name] = {one["id"]: one for one in found}
            self.ids[name] = list(tables[name])
        for key in asked:
            if key[1] == "{}":
                self._check_rest(key, tables)

    def _check_rest(self, key: Any, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """REST shows what the policies mean, where no filter and no hook narrows it."""
        resource, _, identity = key
        if resource == "docs" and self.rights.clauses.get(identity.user_id) is not None:
            return
        true = {
            record
            for record, row in tables[resource].items()
            if may_read(resource, row, identity, self.rights, tables)
        }
        if self.visible[key] != true:
            kind = "missed" if self.visible[key] < true else "leak"
            self._disagree(f"{kind}: REST {key}: {sorted(self.visible[key])} for {sorted(true)}")

    def _key(self, watch: Watch) -> Any:
        return watch.resource, repr(watch.filters), watch.user.identity

    async def _rest(self, watch: Watch) -> frozenset[str]:
        where = None
        if watch.resource == "docs":
            where = self.rights.clauses.get(watch.user.identity.user_id)
        self.tally.queries += 1
        try:
            found = await self.api.resources[watch.resource].query(
                watch.filters, where=where, auth=watch.user.identity, size=1000
            )
        except (PermissionDenied, AuthenticationError):
            return frozenset()
        return frozenset(record["id"] for record in found)

    async def _check_nothing_else_changed(self) -> None:
        """What was not looked at again, since nothing concerned it, is still what it was."""
        before = dict(self.visible)
        await self._look(FILTERS)
        for key, ids in self.visible.items():
            if before.get(key, ids) != ids:
                self._disagree(f"unnoticed: {key}: {sorted(before[key])} is {sorted(ids)}")

    # What happens

    async def _random_step(self, number: int) -> None:
        roll = self.r.random()
        self._step = f"{self.seed} step {number}"
        if roll < 0.55:
            await self._commit(1)
        elif roll < 0.77:
            await self._commit(self.r.randint(2, 5))
        elif roll < 0.88:
            await self._rights_change()
        elif roll < 0.94:
            await self._silent_change()
        elif roll < 0.97:
            await self._renewal()
        else:
            await self._hasty()
        await self._resubscribe(0.5)

    async def _commit(self, operations: int) -> None:
        """A transaction, and all that is told of it."""
        before = dict(self.visible)
        start = self.api._feed.position.offset
        written = await self._transaction(operations)
        await delivered(self.api)
        touched = {name for resource, _ in written for name in TOUCHED.get(resource, (resource,))}
        await self._look(touched & set(FILTERS))
        await delivered(self.api)
        self.tally.commits += 1
        self._check_commit(before, written, start)

    async def _transaction(self, operations: int) -> list[tuple[str, str]]:
        """What was committed: resource and id of each write."""
        r, api = self.r, self.api
        if operations == 1:  # a transaction of its own
            try:
                return await self._random_write(None)
            except self._refusals:
                return []
        written: list[tuple[str, str]] = []
        try:
            async with api.transaction() as uow:
                # Few resources, so that records are written more than once.
                some = r.sample(RESOURCES, r.randint(1, 3))
                for _ in range(operations):
                    if r.random() < 0.3:
                        with suppress(RolledBack, *self._refusals):
                            async with uow.savepoint():
                                inner = []
                                for _ in range(r.randint(1, 2)):
                                    inner += await self._random_write(uow, r.choice(some))
                                if r.random() < 0.5:
                                    raise RolledBack
                            written += inner
                    else:
                        with suppress(*self._refusals):
                            written += await self._random_write(uow, r.choice(some))
                if r.random() < 0.1:
                    raise RolledBack
        except RolledBack:
            return []
        return written

    async def _random_write(self, uow: Any, resource: str = "") -> list[tuple[str, str]]:
        """Give resource and id of what was written."""
        r = self.r
        if self._focus and not resource:
            resource = self._focus.pop()
        resource = resource or r.choice(RESOURCES)
        auth = r.choice(self.users).identity if r.random() < 0.4 else TRUSTED
        ways = ["patch"] * 6 + ["put", "delete", "post", "post"]
        ids = self.ids[resource]
        way = "post" if not ids else r.choice(ways)
        if len(ids) > MOST_RECORDS and way == "post":
            way = "delete"
        record = r.choice(ids) if ids and way != "post" else None
        if way == "put" and resource == "notes" and r.random() < 0.4:
            record = str(r.randint(100, 120))
        if record is not None and r.random() < 0.05:
            await self._forbidden(resource, record, uow)
            return []
        if resource == "groups" and way == "patch" and r.random() < 0.6:
            assert record is not None
            return await self._link(record, auth, uow)
        return [(resource, await self._write(resource, record, auth, way, uow))]

    async def _forbidden(self, resource: str, record: str, uow: Any) -> None:
        """What nobody may do: another spelling of an id, a field that its sender may not read."""
        r = self.r
        auth: Asker = r.choice(self.users).identity
        if self.ids["docs"] and "admin" not in auth.roles and r.random() < 0.5:
            resource, record = "docs", r.choice(self.ids["docs"])
            values = {"grade": r.choice((1, 2, None, "x"))}
        else:
            values = random_values(r, resource, self.ids)
            spell = ("0{}", "+{}", " {}", "{} ", "{}.0", "{}e0", "\uff10{}")
            record = r.choice(spell).format(record)
            auth = r.choice((auth, TRUSTED))
        handle = self.api.resources[resource]
        write = r.choice((handle.patch, handle.put))
        with suppress(*self._refusals):
            async with self._undone(uow):
                await write(record, values, auth=auth, transaction=uow)
            self._disagree(f"wrong: {resource} {record} {values} was written by {auth}")

    @asynccontextmanager
    async def _undone(self, uow: Any) -> AsyncIterator[None]:
        """Where a transaction goes on, what was refused half-way leaves nothing in it."""
        async with nullcontext() if uow is None else uow.savepoint():
            yield

    async def _link(self, group: str, auth: Asker, uow: Any) -> list[tuple[str, str]]:
        """Have a group take up papers, or let them go."""
        r, papers = self.r, self.api.resources.papers

        async def owners() -> dict[str, Any]:
            rows = await papers.query(size=1000, transaction=uow)
            return {row["id"]: row["group_id"] for row in rows}

        before = await owners()
        known = [*before, "999"] if r.random() < 0.1 else list(before)
        some = r.sample(known, min(len(known), r.randint(0, 3)))
        members = Members(some, r.choice(("replace", "add", "remove")))
        draft = Draft(members={"papers": members})
        operations = self.api._assembled.operations
        await operations.patch("groups", group, lambda _: draft, auth=auth, transaction=uow)
        after = await owners()
        moved = [("papers", paper) for paper, owner in after.items() if before[paper] != owner]
        # Who has lost some to this group is told of that as well.
        owned = {str(before[paper]) for _, paper in moved if before[paper] is not None}
        return (
            [("groups", group), *moved, *(("groups", one) for one in sorted(owned - {group}))]
            if moved
            else []
        )

    async def _write(
        self, resource: str, record: str | None, auth: Asker, way: str, uow: Any = None
    ) -> str:
        handle = self.api.resources[resource]
        values = random_values(self.r, resource, self.ids)
        if way == "delete":
            assert record is not None
            await handle.delete(record, auth=auth, transaction=uow)
            return record
        if way == "post":
            made = await handle.post(values, auth=auth, transaction=uow)
            return str(made["id"])
        write = handle.patch if way == "patch" else handle.put
        assert record is not None
        await write(record, values, auth=auth, transaction=uow)
        return record

    def _change_rights_of(self, user: str | None) -> None:
        r = self.r
        kind = r.randrange(3)
        if kind == 0:
            self.rights.grants ^= {(user, r.choice(GUARDED))}
        elif kind == 1:
            self.rights.rooms[user] = tuple(r.sample(range(10), r.randint(1, 6)))
        elif r.random() < 0.4:
            self.rights.clauses.pop(user, None)
        else:
            self.rights.clauses[user] = r.choice(
                [
                    {"state": {"!=": "done"}},
                    {"views": {"<": 5}},
                    {"$or": [{"state": "open"}, {"owner_id": user or "nobody"}]},
                ]
            )

    async def _rights_change(self) -> None:
        """Rights change, and the application says so."""
        user = self.r.choice(self.users).identity.user_id
        self._change_rights_of(user)
        await self.api.permissions_changed(user_id=user)
        await self._look(FILTERS, user)
        self._check_resyncs(lambda one: one.identity.user_id == user)

    async def _silent_change(self) -> None:
        """Permissions change, and nobody says so: delivery is to ask."""
        user = self.r.choice(self.users).identity.user_id
        resource = self.r.choice(GUARDED)
        self.rights.grants ^= {(user, resource)}
        self._focus = [resource] * 3
        await self._look(GUARDED, user)

    async def _renewal(self) -> None:
        """A socket goes on with another token of its user, of another tenant or level."""
        user = self.r.choice([one for one in self.users if one.identity.is_authenticated])
        claims = {
            name: value
            for name, value in {
                "tenant_id": self.r.choice((1, 2, 3, None)),
                "level": self.r.choice((0, 4, 8, None)),
            }.items()
            if value is not None
        }
        token = jwt.encode({"sub": user.identity.user_id, **claims}, SECRET, "HS256")
        server = self.api.socket_server
        answer, _ = await server.handle(user.subscriber.id, "authenticate", {"token": token})
        assert answer["success"] is True, answer
        user.identity = user.subscriber.identity
        await self._look(FILTERS, user.identity.user_id)
        self._check_resyncs(lambda one: one is user)

    async def _hasty(self) -> None:
        """Rights change while a commit is still being told of."""
        user = self.r.choice(self.users).identity.user_id
        with suppress(*self._refusals):
            await self._random_write(None)
        self._change_rights_of(user)
        await self.api.permissions_changed(user_id=user)
        await delivered(self.api)
        await self._look(FILTERS)
        await delivered(self.api)
        self._check_resyncs(lambda one: one.identity.user_id == user)

    async def _resubscribe(self, share: float) -> None:
        """Those whose subscriptions have ended try again."""
        service = self.api.socket_server._service
        for watch in self.watches:
            if watch.is_on or self.r.random() > share:
                continue
            request = {
                "resource": watch.resource,
                "filters": dict(watch.filters),
                "subscriptionId": watch.name,
            }
            may = watch.resource not in GUARDED or (
                (watch.user.identity.user_id, watch.resource) in self.rights.grants
            )
            try:
                await service.subscribe(watch.user.subscriber, request)
                watch.is_on = True
                watch.believed = self.visible.get(self._key(watch), frozenset())
            except (PermissionDenied, AuthenticationError):
                pass
            if watch.is_on != may:
                self._disagree(f"{watch.name}: subscribed {watch.is_on}, permitted {may}")

    # Checking

    def _taken(self) -> dict[str, list[tuple[str, dict[str, Any]]]]:
        """The events that have come, by socket and subscription."""
        found: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        for user in self.users:
            for event, payload in user.take():
                if event == "subscription.error":
                    name = payload["details"]["subscriptionId"]
                else:
                    name = payload["subscriptionId"]
                found[name].append((event, payload))
        return found

    def _check_resyncs(self, concerned: Callable[[User], bool]) -> None:
        """After rights have changed: who sees other records now has been told to refetch.

        Those who are not concerned may have lost rights in silence, and not know it yet.
        """
        events = self._taken()
        for watch in self.watches:
            if not watch.is_on:
                continue
            now = self.visible[self._key(watch)]
            found = events.get(watch.name, ())
            for event, payload in found:
                self.tally.told[event] += 1
                if event == "subscription.error":
                    watch.is_on = False
                elif event == "subscription.resync" and payload["reason"] not in (
                    "permission",
                    "bulk",
                ):
                    self._disagree(f"{watch.name}: {payload}")
            if found:
                watch.believed = now
            elif watch.believed != now and concerned(watch.user):
                place = f"{watch.name} {watch.filters} {watch.user.identity}"
                sets = f"{sorted(watch.believed)}, now {sorted(now)}"
                self._disagree(f"missed: {place}: rights changed, no word: {sets}")

    def _check_commit(
        self,
        before: Mapping[Any, frozenset[str]],
        written: Sequence[tuple[str, str]],
        start: int,
    ) -> None:
        notices = list(self.api._feed._window._history)[start - self.api._feed.position.offset :]
        changes = [
            notice
            for notice in (notices if self.api._feed.position.offset > start else [])
            if isinstance(notice, Change)
        ]
        own = Counter(written)
        per_resource = Counter(change.resource for change in changes)
        events = self._taken()
        for watch in self.watches:
            if not watch.is_on:
                continue
            self.tally.decisions += per_resource[watch.resource]
            found = events.pop(watch.name, [])
            key = self._key(watch)
            was, now = before[key], self.visible[key]
            if not found and was == now and not any((watch.resource, one) in own for one in was):
                continue
            self._check_watch(watch, was, now, found, own)
        if events:
            self._disagree(f"leak: told to subscriptions that are off: {events}")

    def _check_watch(
        self,
        watch: Watch,
        was: frozenset[str],
        now: frozenset[str],
        events: Sequence[tuple[str, dict[str, Any]]],
        own: Counter[tuple[str, str]],
    ) -> None:
        told: dict[str, list[str]] = defaultdict(list)
        is_resynced = False
        watch.believed = now
        for event, payload in events:
            if event == "subscription.update":
                way = payload["meta"]["change"]
                told[payload["id"]].append(way)
                self.tally.told[way] += 1
                if payload["resource"] != watch.resource:
                    self._disagree(f"leak: {watch.name}: {payload}")
            elif event == "subscription.resync" and payload["reason"] in ("bulk", "permission"):
                is_resynced = True
                self.tally.told[f"resync {payload['reason']}"] += 1
            else:
                self._disagree(f"{watch.name}: unexpected {event} {payload}")
        for record in {*was, *now, *told}:
            ways = told.get(record, [])
            place = f"{watch.name} {dict(watch.filters)} {watch.user.identity} record {record}"
            one = watch.resource, record
            state = f"was {record in was}, is {record in now}, told {ways}, written {own[one]}"
            if is_resynced and (record in was or record in now):
                continue
            expected = []
            if (record in was) != (record in now):
                expected = ["enter" if record in now else "leave"]
            elif record in was and own[one]:
                expected = ["update"]
            if ways != expected:
                kind = "wrong" if record in was or record in now else "leak"
                kind = "missed" if len(ways) < len(expected) else kind
                self._disagree(f"{kind}: {place}: {state}")

    def _disagree(self, what: str) -> None:
        self.tally.disagreements.append(f"{self._step}: {what}")
