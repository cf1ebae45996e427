"""Rules allow what they say, deny everything else, and are checked when they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest

from tidings.auth import METHODS, CheckContext, CheckerRegistry, Rules
from tidings.errors import ConfigurationError, NotFound, PermissionDenied
from tidings.identity import ANONYMOUS, Identity

pytestmark = pytest.mark.anyio

ANN = Identity("7", roles=frozenset({"editor"}), permissions=frozenset({"posts:write"}))
ADMIN = Identity("1", roles=frozenset({"admin"}))


@dataclass(frozen=True)
class Context:
    method: str
    auth: Identity = ANONYMOUS
    record: Mapping[str, Any] | None = None
    values: Mapping[str, Any] | None = None
    owner_field: str | None = "author_id"
    id: str | None = None
    resource: str = "posts"


def rules(written, checkers=None) -> Rules:
    return Rules(written, resource="posts", checkers=checkers)


async def allowed(rule, context: CheckContext) -> bool:
    return await rules({context.method: rule}).allows(context)


async def test_what_is_not_named_is_denied():
    written = rules({"get": "public"})
    for method in METHODS:
        assert await written.allows(Context(method, ADMIN)) is (method == "get")
    assert not await rules({}).allows(Context("get", ADMIN))


async def test_the_default_covers_only_what_is_not_named():
    written = rules({"*": "authenticated", "delete": "admin", "get": ["public"]})
    assert await written.allows(Context("post", ANN))
    assert not await written.allows(Context("post"))
    assert await written.allows(Context("get"))
    assert not await written.allows(Context("delete", ANN))
    assert await written.allows(Context("delete", ADMIN))


@pytest.mark.parametrize("method", ["", "*", "GET", "head", "unknown"])
async def test_an_unknown_method_is_denied(method):
    written = rules({"*": "public"})
    assert not await written.allows(Context(method, ADMIN))
    assert not written.is_public(method)


def test_is_public():
    written = rules({"query": ["admin", "public"], "get": "authenticated", "*": "public"})
    assert [m for m in METHODS if not written.is_public(m)] == ["get"]
    assert not any(rules({"get": "admin"}).is_public(method) for method in METHODS)


@pytest.mark.parametrize(
    ("rule", "auth", "expected"),
    [
        ("public", ANONYMOUS, True),
        ("authenticated", ANONYMOUS, False),
        ("authenticated", ANN, True),
        ("admin", ANN, False),
        ("admin", ADMIN, True),
        ("has_role:editor", ANN, True),
        ("has_role: editor ", ANN, True),
        ("has_role:edit", ANN, False),
        ("has_role:Editor", ANN, False),
        ("has_role:posts:write", ANN, False),
        ("has_permission:posts:write", ANN, True),
        ("has_permission:posts", ANN, False),
        ("has_permission:editor", ANN, False),
        ("is_owner", ANONYMOUS, False),
        (["admin", "has_role:editor"], ANN, True),
        (["admin", "is_owner"], ANN, False),
        (("admin", "authenticated"), ANN, True),
    ],
)
async def test_built_in_checkers(rule, auth, expected):
    assert await allowed(rule, Context("get", auth)) is expected


OWN, OTHER = {"author_id": 7}, {"author_id": 8}


@pytest.mark.parametrize(
    ("method", "record", "values", "expected"),
    [
        ("get", OWN, None, True),
        ("get", OTHER, None, False),
        ("get", {"author_id": "7"}, None, True),
        ("get", {"author_id": None}, None, False),
        ("get", {}, None, False),
        ("get", None, None, False),
        ("delete", OWN, None, True),
        ("delete", OTHER, None, False),
        ("post", None, OWN, True),
        ("post", None, OTHER, False),
        ("post", None, {"author_id": None}, False),
        ("post", None, {}, False),
        ("post", None, None, False),
        ("patch", OWN, {"title": "x"}, True),
        ("patch", OWN, None, True),
        ("patch", OWN, OWN, True),
        ("patch", OWN, OTHER, False),
        ("patch", OWN, {"author_id": None}, False),
        ("patch", OTHER, OWN, False),
        ("patch", OTHER, OTHER, False),
        ("patch", None, OWN, False),
        ("put", OWN, OWN, True),
        ("put", OWN, OTHER, False),
        ("put", OTHER, OWN, False),
        ("put", None, OWN, False),
    ],
)
async def test_is_owner(method, record, values, expected):
    context = Context(method, ANN, record, values)
    assert await allowed("is_owner", context) is expected
    assert not await allowed("is_owner", replace(context, auth=ANONYMOUS))
    assert not await allowed("is_owner", replace(context, owner_field=None))
    assert not await allowed("is_owner", replace(context, owner_field="other"))


async def test_another_checker_may_allow_handing_a_record_over():
    context = Context("patch", ANN, OWN, OTHER)
    assert await allowed(["is_owner", "has_role:editor"], context)


async def test_is_owner_never_takes_a_missing_owner_for_a_user_of_that_name():
    for auth in (ANONYMOUS, Identity("None"), Identity("")):
        assert not await allowed("is_owner", Context("get", auth, {"author_id": None}))
        assert not await allowed("is_owner", Context("get", auth, {}))


async def test_is_owner_compares_other_types_as_text():
    owner = UUID(int=5)
    assert await allowed("is_owner", Context("get", Identity(str(owner)), {"author_id": owner}))


@pytest.mark.parametrize("answer", [None, 1, "yes", [1], 0, "", object()])
async def test_only_true_allows(answer):
    async def later(context, argument):
        return answer

    checkers = CheckerRegistry()
    checkers.add("now", lambda context, argument: answer)
    checkers.add("later", later)
    for name in ("now", "later"):
        assert not await rules({"get": name}, checkers).allows(Context("get", ADMIN))


async def test_own_checkers_get_context_and_argument():
    seen = []

    async def later(context, argument):
        seen.append((context, argument))
        return True

    checkers = CheckerRegistry()
    checkers.add("note", lambda context, argument: seen.append((context, argument)))
    checkers.add("later", later)
    context = Context("patch", ANN)
    written = rules({"patch": ["note", "note:a:b", "later:c", "note:never"]}, checkers)
    assert await written.allows(context)
    assert seen == [(context, None), (context, "a:b"), (context, "c")]


async def test_permission_denied_counts_as_no_and_other_errors_come_out():
    def deny(context, argument):
        raise PermissionDenied("no")

    async def fail(context, argument):
        raise NotFound("gone")

    checkers = CheckerRegistry()
    checkers.add("deny", deny)
    checkers.add("fail", fail)
    context = Context("get", ANN)
    assert not await rules({"get": "deny"}, checkers).allows(context)
    assert await rules({"get": ["deny", "authenticated"]}, checkers).allows(context)
    with pytest.raises(NotFound):
        await rules({"get": ["fail", "authenticated"]}, checkers).allows(context)


def test_own_checkers_are_known_to_their_registry_only():
    checkers = CheckerRegistry()
    checkers.add("mine", lambda context, argument: True)
    assert "mine" in checkers
    assert rules({"get": "mine"}, checkers)
    with pytest.raises(ConfigurationError, match="no checker 'mine'"):
        rules({"get": "mine"})


@pytest.mark.parametrize("name", ["public", "mine", "", "a:b", "a b", " a", None, 5])
def test_bad_names_of_checkers_are_refused(name):
    checkers = CheckerRegistry()
    checkers.add("mine", lambda context, argument: True)
    with pytest.raises(ConfigurationError, match="checker"):
        checkers.add(name, lambda context, argument: True)


def test_a_checker_must_be_callable():
    with pytest.raises(ConfigurationError, match="must be a function"):
        CheckerRegistry().add("mine", True)


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ({"patch": ["is_ownr"]}, ["'posts'", "'patch'", "'is_ownr'", "mean 'is_owner'", "known:"]),
        ({"get": "Public"}, ["'get'", "did you mean 'public'"]),
        ({"get": "xyz"}, ["no checker 'xyz' (known"]),
        ({"get": ""}, ["no checker ''"]),
        ({"patch": ["has_role"]}, ["'patch'", "'has_role'", "argument is missing", "has_role:som"]),
        ({"patch": ["has_role:"]}, ["argument is missing"]),
        ({"patch": ["has_permission: "]}, ["argument is missing"]),
        ({"patch": ["needs"]}, ["argument is missing", "needs:something"]),
        ({"patch": ["may:"]}, ["argument is missing"]),
        ({"patch": ["admin:x"]}, ["'admin:x'", "takes no argument"]),
        ({"patch": ["public:"]}, ["takes no argument"]),
        ({"patch": ["plain:x"]}, ["takes no argument"]),
        ({"pach": ["admin"]}, ["'posts'", "'pach'", "no such method", "mean 'patch'", "and '*'"]),
        ({"GET": "admin"}, ["did you mean 'get'"]),
        ({None: "admin"}, ["no such method"]),
        ({"get": []}, ["'posts'", "'get'", "non-empty list"]),
        ({"*": []}, ["'*'", "non-empty list"]),
        ({"get": None}, ["non-empty list of rules, not None"]),
        ({"get": {"public"}}, ["non-empty list of rules"]),
        ({"get": [["public"]]}, ["a rule must be a string"]),
        ({"get": True}, ["non-empty list of rules, not True"]),
        (["public"], ["'posts'", "must be a dict"]),
        ({"query": "is_owner"}, ["'posts'", "'query'", "'is_owner'", "no owner", "row policy"]),
        ({"query": ["admin", "is_owner"]}, ["a collection has no owner"]),
        ({"*": ["admin", "is_owner"]}, ["'query'", "a collection has no owner"]),
    ],
)
def test_wrong_rules_are_refused_with_their_place(written, parts):
    checkers = CheckerRegistry()
    checkers.add("needs", lambda context, argument: True, takes_argument=True)
    checkers.add("plain", lambda context, argument: True, takes_argument=False)
    checkers.add("may", lambda context, argument: True)
    with pytest.raises(ConfigurationError) as caught:
        rules(written, checkers)
    for part in parts:
        assert part in str(caught.value)


async def test_is_owner_as_default_beside_rules_for_query():
    written = rules({"*": ["is_owner"], "query": "admin"})
    assert await written.allows(Context("delete", ANN, OWN))
    assert not await written.allows(Context("query", ANN))
