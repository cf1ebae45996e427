"""What a transaction comes to: one change per record, and nothing of what was in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tidings.feed import Action, Change, Invalidation, net_changes

A, B, C = ({"id": 1, "title": title} for title in "abc")


def change(action: Action, before: Any, after: Any, key: str = "1", **more: Any) -> Change:
    return Change("notes", key, action, before, after, **more)


@pytest.mark.parametrize(
    ("some", "net"),
    [
        ([change("post", None, A), change("patch", A, B)], ("post", None, B)),
        ([change("patch", A, B), change("patch", B, C)], ("patch", A, C)),
        ([change("patch", A, B), change("update", B, C)], ("update", A, C)),
        ([change("patch", A, B), change("delete", B, None)], ("delete", A, None)),
        ([change("delete", A, None), change("post", None, B)], ("update", A, B)),
        ([change("post", None, A), change("delete", A, None), change("post", None, B)],
         ("post", None, B)),
        ([change("patch", A, B), change("patch", B, A)], ("patch", A, A)),
        ([change("patch", A, B), change("patch", B, C, derived=True)], ("patch", A, C)),
    ],
)  # fmt: skip
def test_the_changes_of_one_record_are_one(some: list[Change], net: tuple[Any, ...]) -> None:
    (found,) = net_changes(some)
    assert isinstance(found, Change)
    assert (found.action, found.before, found.after) == net
    assert not found.derived


def test_what_was_made_and_deleted_was_never_there() -> None:
    assert net_changes([change("post", None, A), change("delete", A, None)]) == []


def test_derived_changes_alone_stay_derived() -> None:
    some = [change("patch", A, B, derived=True), change("patch", B, C, derived=True)]
    (found,) = net_changes(some)
    assert isinstance(found, Change)
    assert found.derived


def test_what_is_unknown_of_either_image_stays_so() -> None:
    some = [
        change("patch", A, B, unknown=frozenset({"x"})),
        change("patch", B, C, unknown=frozenset({"y"})),
    ]
    (found,) = net_changes(some)
    assert isinstance(found, Change)
    assert found.unknown == {"x", "y"}


def test_records_stand_where_their_last_change_stood() -> None:
    some = [
        change("patch", A, B, "1"),
        Invalidation("notes", frozenset({"p"})),
        change("patch", A, B, "2"),
        change("patch", B, C, "1"),
        Invalidation("notes", frozenset({"p"})),
        Change("users", "1", "patch", A, B),
    ]
    found = net_changes(some)
    assert [(one.resource, getattr(one, "id", None)) for one in found] == [
        ("notes", "2"),
        ("notes", "1"),
        ("notes", None),
        ("users", "1"),
    ]


def test_what_an_invalidation_of_the_same_transaction_concerns_is_known_of_no_change() -> None:
    """A member comes, and goes by a write that reached too many records to say which."""

    def seen(*members: str, name: str = "a") -> dict[str, Any]:
        return {"id": 1, "name": name, "seats.user": members, "team.name": "t"}

    lost = Invalidation("notes", frozenset({"seats.user"}))
    other = Invalidation("others", frozenset({"seats.user"}))
    derived = change("patch", seen(), seen("dee"), derived=True)
    own = change("patch", seen(), seen("dee", name="b"))
    both = change("patch", seen(), seen("dee") | {"team.name": "u"}, derived=True)
    for order in (lambda some: some, reversed):
        assert net_changes(list(order([derived, lost]))) == [lost]
        assert net_changes(list(order([derived, other]))) == list(order([derived, other]))
        for kept in (own, both):
            found = [one for one in net_changes(list(order([kept, lost]))) if one != lost]
            assert found == [
                replace(kept, unknown=lost.paths or frozenset(), resynced=lost.paths or frozenset())
            ]
