"""Drafts: what a write is given, cast before anybody is asked about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

from tidings.errors import Conflict, InvalidRequest, ProblemList, RequestError
from tidings.identity import Trusted
from tidings.numbers import uncollected
from tidings.resources.includes import IncludeTree
from tidings.resources.visibility import View
from tidings.schema import Relationship, ResourceType, ValueProblem, accept_given
from tidings.schema.fields import MISSING
from tidings.storage import Row

_Result = TypeVar("_Result")
Mode = Literal["replace", "add", "remove"]


@dataclass(frozen=True, slots=True)
class Members:
    """Ids for a to-many relationship: all that it is to have, or what it takes up or lets go."""

    keys: Sequence[str]
    mode: Mode = "replace"

    @classmethod
    def of_one(cls, key: str | None) -> Members:
        """For a to-one relationship whose key the other record holds: its id, or None."""
        return cls([] if key is None else [key])


@dataclass(frozen=True, slots=True)
class Draft:
    """The values that a write was given, by field name, as they came."""

    values: Mapping[str, Any] = field(default_factory=dict)
    record_id: object = None
    """Of a new record, where its maker chooses it."""
    include: IncludeTree = field(default_factory=dict)
    members: Mapping[str, Members] = field(default_factory=dict)
    """By to-many relationship, what is to become of it."""
    contested: Mapping[str, object] = field(default_factory=dict)
    """By foreign key, its value as an attribute where its relationship says something else."""
    require: Require | None = None
    is_long: bool = False
    """Whether its values may take so long to cast that the event loop must not wait for it."""


@dataclass(frozen=True, slots=True)
class Link:
    """One write by which a to-many relationship takes a record up or lets it go."""

    relationship: Relationship
    method: Literal["patch", "post", "delete"]
    view: View
    """Of the resource that is written: the related one, or that which links the two."""
    owner: Any
    """The id of the record that has the relationship."""
    key: Any
    """Of the record that is written; of one that is made, the related record's."""
    record: Row | None
    """As it was when permission was asked."""
    given: Given | None
    """What is written to it; None where it is deleted."""

    @property
    def is_leaving(self) -> bool:
        """Whether a member is let go."""
        if self.given is None:
            return True
        key = self.relationship.foreign_key
        return self.method == "patch" and self.given.values.get(key) is None

    def is_held_by(self, row: Row | None) -> bool:
        """Whether a row, as it is now, still makes the member one."""
        names = [self.relationship.foreign_key, self.relationship.other_key]
        return row is not None and all(
            self.record is not None and row[name] == self.record[name] for name in names if name
        )


Require = Callable[[View, Row | None], None]
"""Raises where a write must not be done to the record as it is, which is locked; None: there is
none."""
MakeDraft = Callable[[View], Draft]
"""Reads what was given in terms of what the asker may know."""


@dataclass(slots=True)
class Given:
    """A draft whose values have been cast. What is wrong with it is told after permission was
    asked: an error would tell of the schema.
    """

    draft: Draft
    values: Row
    problems: ProblemList
    failure: RequestError | None = None
    related: Row = field(default_factory=dict)
    """By contested foreign key, the value that its relationship was given."""
    present: dict[str, list[Any]] = field(default_factory=dict)
    """By to-many relationship that is to be replaced, the ids that it had when that was planned."""
    links: list[Link] = field(default_factory=list)
    """The related records to write, in an order in which all lock them."""
    sent_back: Row = field(default_factory=dict)
    """What the asker cannot set, by field name: it may be what a document has shown."""
    version: int | None = None
    """That of the record for which the write is meant."""

    @property
    def is_echo(self) -> bool:
        """Whether it must be held against the record as it is."""
        return bool(
            self.draft.members or self.draft.contested or self.sent_back or self.version is not None
        )

    def settle(self, view: View, record: Row | None) -> None:
        """Of a foreign key that was given twice, take the value that the record does not have."""
        for column, attribute in self.draft.contested.items():
            if column in self.sent_back:
                continue
            try:
                other = view.resource.fields[column].accept(attribute)
            except ValueProblem as problem:
                self.problems.add(column, problem.message, problem.code, problem.path)
                continue
            related = self.related.setdefault(column, self.values.get(column))
            self.values[column] = related
            if record is not None and related == record[column]:
                self.values[column] = other
            elif other != related and (record is None or other != record[column]):
                self.failure = self.failure or InvalidRequest(
                    f"contradicts the attribute {column!r}", code="INVALID_DOCUMENT", field=column
                )

    def compare(self, resource: ResourceType, record: Row | None) -> None:
        """Hold what cannot be set against the record: as it is, it may be sent back.

        A version says for which state of a record the write is meant, and a new one has none.
        """
        wrong: dict[str, None] = {}
        # Of a polymorphic reference, type and id are one thing to whoever has sent them.
        pairs = {one.type_field: name for name, one in resource.fields.items() if one.targets}
        for name, value in self.sent_back.items():
            values = [value]
            if name in self.draft.contested:
                values.append(self.draft.contested[name])
            if not all(_is_as_shown(resource, name, one, record) for one in values):
                wrong[pairs.get(name, name)] = None
        for name in wrong:
            self.problems.add(name, "is read only", "READ_ONLY")
        if record is None and self.version is not None:
            self.problems.add(str(resource.version_field), "is read only", "READ_ONLY")

    def check_version(self, resource: ResourceType, record: Row) -> None:
        """Hold the version that was sent against that of the record, which is locked.

        Raises:
            Conflict: ``STALE_VERSION``.
        """
        name = resource.version_field
        if self.version is not None and name is not None and record[name] != self.version:
            raise Conflict(
                "The record has changed since you read it: fetch it again",
                code="STALE_VERSION",
                field=name,
            )

    @property
    def is_wrong(self) -> bool:
        """Whether some value cannot be taken."""
        return bool(self.problems.problems)

    def note_missing(self, resource: ResourceType) -> None:
        """Add the fields that must have a value and were given none."""
        for name, found in resource.fields.items():
            missing = found.required and found.default is MISSING and not found.hidden
            if missing and name not in self.draft.values:
                self.problems.add(name, "is required", "REQUIRED")

    def note_missing_virtual(self, resource: ResourceType) -> None:
        """Add the virtual fields that must be given and are not: no hook fills these in."""
        for name, found in resource.virtual.items():
            if found.required and name not in self.draft.values:
                self.problems.add(name, "is required", "REQUIRED")

    def raise_if_wrong(self, resource: str) -> None:
        """Say what is wrong, if anything is.

        Raises:
            RequestError: the draft could not be read.
            ValidationFailed: with every problem of every value.
        """
        if self.failure is not None:
            raise self.failure
        self.problems.raise_if_any(resource)


def read_draft(view: View, make: MakeDraft) -> Given:
    """Read a draft and cast its values; whatever is wrong waits in what this gives."""
    given = _made(view, make)
    _cast(view, given)
    return given


async def read_any_draft(view: View, make: MakeDraft) -> Given:
    """The same, of a draft of any length: a long one is cast beside the event loop."""
    given = _made(view, make)
    await worked(given, partial(_cast, view, given))
    return given


async def worked(given: Given, work: Callable[[], _Result]) -> _Result:
    """Do work on all values of a draft: of a long one, beside the event loop."""
    return await asyncio.to_thread(_uncollected, work) if given.draft.is_long else work()


def _uncollected(work: Callable[[], _Result]) -> _Result:
    with uncollected():
        return work()


def _made(view: View, make: MakeDraft) -> Given:
    try:
        return Given(make(view), {}, ProblemList())
    except RequestError as failure:
        return Given(Draft(), {}, ProblemList(), failure)


def _cast(view: View, given: Given) -> None:
    if given.failure is not None:
        return
    given.values = accept_given(
        view.resource,
        given.draft.values,
        given.problems,
        trusted=isinstance(view.auth, Trusted),
        sent_back=given.sent_back,
    )
    version = view.resource.version_field
    if version is not None:
        given.version = given.values.pop(version, None)


def _is_as_shown(resource: ResourceType, name: str, value: object, record: Row | None) -> bool:
    field = resource.declared(name)
    if record is None or field is None:
        return False
    now = record[name] if field.computed is None else field.compute(record)
    if value is None or now is None:
        return value is now
    try:
        return bool(field.cast(value) == now)
    except ValueProblem:
        return False
