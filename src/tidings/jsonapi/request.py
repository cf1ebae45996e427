"""Requests: what a client asks for, read in the terms of what it may know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers

from tidings.errors import NotFound, RequestError
from tidings.feed import Cursor
from tidings.identity import Identity
from tidings.jsonapi.bodies import Body, parse_write
from tidings.jsonapi.conditions import requirement
from tidings.jsonapi.documents import DocumentWriter, Shown
from tidings.jsonapi.parameters import ParameterReader, Parameters
from tidings.resources import Draft, Fieldsets, IncludeTree, Require, Selection, View
from tidings.resources.naming import WrongSpelling, declared_name, spell_error
from tidings.schema import Relationship, ResourceRegistry, ResourceType
from tidings.storage import Row


@dataclass(frozen=True, slots=True)
class Terms:
    """The resources as an identity may know them, and what reads and writes in their terms."""

    registry: ResourceRegistry
    reader: ParameterReader
    documents: DocumentWriter


@dataclass(slots=True)
class Request:
    """One request. What of it is about the resource is read after permission was asked."""

    method: str
    base: str
    resource: ResourceType
    record_id: str | None
    relationship_name: str | None
    """Where the URL is that of a relationship of the record, or of what it leads to."""
    parameters: Parameters
    identity: Identity
    headers: Headers
    body: Body
    terms: Terms
    pointers: dict[str, str]
    """Gets where in the body the value of each field stood."""
    cursor: str
    """The place in the feed before which everything is in what the answer shows."""
    fields: Fieldsets = field(default_factory=dict)
    """What of the records the client wants to see; read together with the rest."""

    @property
    def shown(self) -> Shown:
        """What the answer is to show, once that was read."""
        return Shown(self.fields, self.base, self.parameters, self.cursor)

    def written_at(self, cursor: Cursor | None) -> None:
        """Take the place of the write itself, where it is known: what it says is in the answer."""
        if cursor is not None:
            self.cursor = str(cursor)

    def relationship(self) -> Relationship:
        """The relationship of the URL.

        Raises:
            NotFound: the resource has none of this name.
        """
        try:
            name = declared_name(self.resource, str(self.relationship_name))
        except WrongSpelling:
            name = ""
        link = self.resource.relationships.get(name)
        if link is None or (link.is_own and self.resource.fields[link.foreign_key].hidden):
            raise NotFound("There is nothing at this URL", code="RELATIONSHIP_NOT_FOUND")
        return link

    def include(self, _view: View | None = None) -> IncludeTree:
        """Read what is to come along, and the sparse fieldsets."""
        self.fields = self.terms.reader.fieldsets(self.parameters)
        return self.terms.reader.include(self.resource, self.parameters)

    def selection(self, _view: View) -> Selection:
        """Read which records are asked for."""
        self.fields = self.terms.reader.fieldsets(self.parameters)
        return self.terms.reader.selection(self.resource, self.parameters, self.identity)

    def draft(self, view: View) -> Draft:
        """Read the document that the request brings."""
        write = parse_write(self.resource, self.body, expected_id=self.record_id)
        self.pointers.update(write.pointers)
        return Draft(
            write.values,
            write.id if self.record_id is None else None,
            self.include(view),
            write.members,
            write.contested,
            self.requirement(),
            is_long=not isinstance(self.body, bytes) and _has_structure(write.values),
        )

    def spell(self, error: RequestError) -> None:
        """Have an error name what is wrong as the client does."""
        spell_error(self.resource, error)
        spelled = {self.resource.member_name(name): at for name, at in self.pointers.items()}
        self.pointers.update(spelled)

    def requirement(self) -> Require | None:
        """What the record that is written must be like."""
        return requirement(self.headers, self.method, self.state)

    def state(self, view: View, row: Row) -> str:
        """The tag of a record, as who asks may know it."""
        return self.terms.documents.state(view.resource, row)


def _has_structure(values: Mapping[str, Any]) -> bool:
    """Whether some value holds others: only these take long to look through."""
    return any(isinstance(value, dict | list) for value in values.values())
