"""Who is asking, and how errors are told."""

from __future__ import annotations

import copy
import pickle

import pytest

from tidings import ANONYMOUS, FilterError, Identity, MissingExtraError, ValidationFailed
from tidings.errors import (
    Problem,
    ProblemList,
    RelatedNotFound,
    RequestError,
    TidingsError,
)


def test_claims_are_attributes() -> None:
    identity = Identity("7", claims={"workspace_id": 3, "user_id": "other"})
    assert identity.workspace_id == 3
    assert identity.missing is None
    assert identity.user_id == "7", "a claim hides nothing that is verified"
    with pytest.raises(AttributeError):
        identity.__deepcopy__  # noqa: B018


def test_nobody() -> None:
    assert not ANONYMOUS.is_authenticated
    assert ANONYMOUS.user_id is None
    assert not ANONYMOUS.has_role("admin")
    assert not ANONYMOUS.has_permission("write")
    assert ANONYMOUS.workspace_id is None


def test_somebody() -> None:
    identity = Identity("7", frozenset({"editor"}), frozenset({"write"}))
    assert identity.is_authenticated
    assert identity.has_role("editor")
    assert not identity.has_role("admin")
    assert identity.has_permission("write")
    assert not identity.has_permission("delete")


def test_identities_are_values() -> None:
    one, other = Identity("7", claims={"a": [1]}), Identity("7", claims={"a": [1]})
    assert one == other
    assert hash(one) == hash(other)
    assert one != Identity("7", claims={"a": [2]})
    assert copy.deepcopy(one) == one == pickle.loads(pickle.dumps(one))


def test_a_repr_shows_no_claims() -> None:
    assert "secret" not in repr(Identity("7", claims={"token": "secret"}))


def every_error(kind: type[RequestError]) -> list[type[RequestError]]:
    return [kind, *(error for sub in kind.__subclasses__() for error in every_error(sub))]


@pytest.mark.parametrize("kind", every_error(RequestError))
def test_every_request_error_knows_its_status_and_code(kind: type[RequestError]) -> None:
    assert issubclass(kind, TidingsError)
    assert 400 <= kind.status < 600
    assert kind.default_code.isupper()
    assert kind.title


def test_validation_lists_its_problems() -> None:
    problems = ProblemList()
    problems.raise_if_any()
    problems.add("title", "is required", "REQUIRED")
    problems.add("tags", "must be text", path=(0, "a"))
    with pytest.raises(ValidationFailed) as caught:
        problems.raise_if_any("posts")
    assert str(caught.value) == "title: is required; tags: must be text"
    assert caught.value.resource == "posts"
    assert caught.value.problems[1] == Problem("tags", "must be text", path=(0, "a"))


def test_filter_errors_carry_their_details() -> None:
    error = FilterError(problems=[Problem("a", "wrong")])
    assert error.details == {"a": {"code": "INVALID_VALUE", "message": "wrong"}}
    assert FilterError("no", code="X").details is None
    assert FilterError("no", code="X").code == "X"


def test_related_not_found_names_the_fields() -> None:
    assert str(RelatedNotFound(["a", "b"])) == "a, b refers to a record that does not exist"
    assert str(RelatedNotFound([])) == "A value refers to a record that does not exist"


def test_a_missing_extra_says_what_to_run() -> None:
    error = MissingExtraError("redis", "redis", "redis=")
    assert str(error) == (
        "redis= needs the package 'redis', which is not installed: "
        'run pip install "tidings[redis]"'
    )
