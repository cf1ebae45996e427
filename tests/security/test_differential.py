"""REST is the oracle: a subscriber is told what REST would show, and nothing beyond it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.realtime.kit import Wire, delivered
from tests.security.differential import Prover
from tidings import (
    TRUSTED,
    Api,
    Identity,
    JWTAuthPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings import policies as ready
from tidings.filters import EVERYTHING
from tidings.matching import Matcher
from tidings.realtime import SocketServer, delivery
from tidings.realtime.admission import Admission
from tidings.realtime.delivery import Dispatcher
from tidings.realtime.subscriptions import Subscriber
from tidings.resources import Visibility, operations
from tidings.resources.effects import Effects
from tidings.resources.permissions import QueryPermissions
from tidings.resources.policies import Policies
from tidings.schema import resource as schema_of_resources
from tidings.storage.change_log import ChangeLog

MOST = 12
"""How many worlds a mutant may survive."""


@pytest.mark.parametrize("number", range(4))
async def test_notifications_are_what_rest_shows(number: int) -> None:
    tally = await Prover(f"ci/{number}", sockets=2).run(70)
    assert tally.disagreements == [], tally.disagreements[:5]
    assert tally.decisions > 1_000
    assert min(tally.told[way] for way in ("enter", "update", "leave")) > 10, tally.told


@pytest.mark.parametrize("way", ["post and move", "move and delete", "there and back"])
async def test_a_record_that_passes_through_a_tenant_within_a_transaction(way: str) -> None:
    api = Api(name="passing")
    api.use(RestApiPlugin())
    api.use(SqlAlchemyPlugin("sqlite+aiosqlite://", create_tables=True))
    api.use(JWTAuthPlugin(secret="a-secret-of-thirty-two-bytes-or-more"))
    api.use(SocketIOPlugin())
    api.add_resource("notes", {"tenant_id": "integer"}, row_policy=ready.tenant())
    async with api:
        notes, wire = api.resources.notes, Wire()
        one = Subscriber("s", Identity(user_id="u", claims={"tenant_id": 1}), wire)
        await api.socket_server._service.subscribe(one, {"resource": "notes"})
        other = await notes.post({"tenant_id": 2})
        async with api.transaction() as uow:
            if way == "post and move":
                made = await notes.post({"tenant_id": 1}, transaction=uow)
                await notes.patch(made["id"], {"tenant_id": 2}, transaction=uow)
            else:
                await notes.patch(other["id"], {"tenant_id": 1}, transaction=uow)
                if way == "move and delete":
                    await notes.delete(other["id"], transaction=uow)
                else:
                    await notes.patch(other["id"], {"tenant_id": 2}, transaction=uow)
        await delivered(api)
        assert wire.events() == []


# Faults that the proof must find


class _Blind(Visibility):
    """A visibility that knows no row policies."""

    def condition(self, view: Any, method: Any = "query", filters: Any = EVERYTHING) -> Any:
        return filters


class _Unguarded:
    """Policies by which a filter sees every related record."""

    def __init__(self, policies: Policies) -> None:
        self.of = policies.of

    def guarded(self, resource: Any, filters: Any, auth: Any) -> Any:
        return filters


def policy_is_dropped_from_subscriptions(patch: pytest.MonkeyPatch) -> None:
    made = Admission.__init__

    def init(self: Any, visibility: Visibility, hooks: Any) -> None:
        made(self, _Blind(visibility._registry, visibility.policies), hooks)

    patch.setattr(Admission, "__init__", init)


def paths_are_not_guarded_in_subscriptions(patch: pytest.MonkeyPatch) -> None:
    made = Admission.__init__

    def init(self: Any, visibility: Visibility, hooks: Any) -> None:
        unguarded: Any = _Unguarded(visibility.policies)
        made(self, Visibility(visibility._registry, unguarded), hooks)

    patch.setattr(Admission, "__init__", init)


def policy_is_dropped_from_query(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(operations, "replace", lambda selection, **_: selection)


def leave_is_sent_for_what_was_not_seen(patch: pytest.MonkeyPatch) -> None:
    steps = Matcher.steps

    def careless(self: Matcher, change: Any) -> Any:
        found = yield from steps(self, change)
        told = {node for nodes in found for node in nodes}
        others = [
            node
            for resource, nodes in self._nodes.items()
            for node in nodes.values()
            if resource == change.resource and node not in told and change.after is None
        ]
        return found._replace(leave=[*found.leave, *others])

    patch.setattr(Matcher, "steps", careless)


def before_is_taken_for_after(patch: pytest.MonkeyPatch) -> None:
    steps = Matcher.steps

    def careless(self: Matcher, change: Any) -> Any:
        found = yield from steps(self, change)
        return found._replace(leave=[], enter=[*found.enter, *found.leave])

    patch.setattr(Matcher, "steps", careless)


def permission_is_not_asked_at_delivery(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: Any) -> dict[Any, Any]:
        return {}

    patch.setattr(Dispatcher, "_ask", nothing)


def permissions_are_remembered_for_good(patch: pytest.MonkeyPatch) -> None:
    made = QueryPermissions.__init__

    def init(self: Any, registry: Any, _: float) -> None:
        made(self, registry, 3600.0)

    patch.setattr(QueryPermissions, "__init__", init)


def hook_clause_is_dropped(patch: pytest.MonkeyPatch) -> None:
    async def none(*_: Any) -> list[Any]:
        return []

    patch.setattr(Admission, "_clauses", none)


def changed_rights_are_not_asked_for(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SocketServer, "begin_recheck", lambda *_: [])


def policies_are_not_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Policies, "forget", lambda self: None)


def each_step_of_a_transaction_is_told(patch: pytest.MonkeyPatch) -> None:
    def take(self: ChangeLog) -> Any:
        changes, self._changes = self._changes, []
        return changes

    patch.setattr(ChangeLog, "take", take)


def changes_of_a_savepoint_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ChangeLog, "rollback_to", ChangeLog.release)


def changes_of_a_rollback_stay(patch: pytest.MonkeyPatch) -> None:
    def published(self: ChangeLog) -> None:
        changes, self._changes = self._changes, []
        KEPT.append(changes)

    take = ChangeLog.take

    def take_all(self: ChangeLog) -> Any:
        kept = [change for changes in KEPT for change in changes]
        KEPT.clear()
        return [*kept, *take(self)]

    KEPT.clear()
    patch.setattr(ChangeLog, "clear", published)
    patch.setattr(ChangeLog, "take", take_all)


KEPT: list[Any] = []


def links_are_written_as_if_trusted(patch: pytest.MonkeyPatch) -> None:
    """What a relationship takes up is looked at with everybody's rights."""
    view = Visibility.view

    def trusting(self: Visibility, name: str, auth: Any) -> Any:
        return view(self, name, TRUSTED if name == "papers" else auth)

    patch.setattr(Visibility, "view", trusting)


def any_spelling_of_an_id_is_taken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(schema_of_resources, "check_spelling", lambda *_: None)


def what_may_not_be_read_may_be_written(patch: pytest.MonkeyPatch) -> None:
    made = operations.read_any_draft

    async def careless(found: Any, make: Any) -> Any:
        return await made(replace(found, auth=TRUSTED), make)

    patch.setattr(operations, "read_any_draft", careless)


def members_come_and_go_in_silence(patch: pytest.MonkeyPatch) -> None:
    prepare = Effects.prepare

    async def blind(self: Effects, uow: Any, resource: Any, before: Any, values: Any) -> Any:
        effect = await prepare(self, uow, resource, before, values)
        effect.touched = [one for one in effect.touched if resource.name != "seats"]
        return effect

    patch.setattr(Effects, "prepare", blind)


def related_changes_are_told_as_updates(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(delivery, "_told", lambda change, found: found)


@pytest.mark.parametrize(
    ("mutate", "kind"),
    [
        (policy_is_dropped_from_subscriptions, "leak"),
        (paths_are_not_guarded_in_subscriptions, "leak"),
        (policy_is_dropped_from_query, "leak: REST"),
        (leave_is_sent_for_what_was_not_seen, "leak"),
        (before_is_taken_for_after, "wrong"),
        (permission_is_not_asked_at_delivery, "leak"),
        (permissions_are_remembered_for_good, "leak"),
        (hook_clause_is_dropped, "leak"),
        (changed_rights_are_not_asked_for, ""),
        (policies_are_not_forgotten, "leak: REST"),
        (each_step_of_a_transaction_is_told, "leak"),
        (changes_of_a_savepoint_stay, ""),
        (changes_of_a_rollback_stay, ""),
        (related_changes_are_told_as_updates, "wrong"),
        (links_are_written_as_if_trusted, ""),
        (any_spelling_of_an_id_is_taken, "wrong: "),
        (what_may_not_be_read_may_be_written, "wrong: docs"),
        (members_come_and_go_in_silence, ""),
    ],
)
async def test_the_proof_finds_the_fault(
    mutate: Callable[[pytest.MonkeyPatch], None], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch)
    for number in range(MOST):
        tally = await Prover(f"mutant/{number}", sockets=2).run(80, until=f": {kind}")
        if any(f": {kind}" in one for one in tally.disagreements):
            return
    raise AssertionError(f"not found in {MOST} worlds")
