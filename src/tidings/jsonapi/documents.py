"""JSON:API documents: what goes out (JSON:API 1.1, chapter 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tidings.jsonapi.conditions import state_tag
from tidings.jsonapi.parameters import Parameters
from tidings.resources import Fieldsets, Found, Included, Page
from tidings.resources.keysets import Keyset, place_of
from tidings.schema import Relationship, ResourceRegistry, ResourceType
from tidings.storage import Row

Document = dict[str, Any]
_VERSION = {"version": "1.1"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a document is to show; ``base`` is the URL path below which the resources are."""

    fields: Fieldsets
    base: str
    parameters: Parameters
    cursor: str
    """The place in the feed before which everything is in the document."""


class DocumentWriter:
    """Turns rows into documents."""

    def __init__(self, registry: ResourceRegistry) -> None:
        self._registry = registry
        self._attributes = {resource.name: list(resource.attributes) for resource in registry}
        self._made = {
            resource.name: {
                name: field.shown
                for name, field in resource.attributes.items()
                if field.as_string or field.computed is not None
            }
            for resource in registry
        }
        """The attributes that are not as the row has them."""
        self._spelled = {
            resource.name: {
                name: resource.member_name(name)
                for name in (*resource.attributes, *resource.relationships)
            }
            for resource in registry
            if resource.declared_names
        }
        """The names that are spelled in another way than they are declared."""
        self._columns = {
            resource.name: [
                "id",
                *(name for name, field in resource.fields.items() if field.is_shown),
            ]
            for resource in registry
        }

    def item(
        self,
        resource: ResourceType,
        found: Found,
        shown: Shown,
        path: str | None = None,
    ) -> Document:
        """The document of one record; ``path`` is the URL path that it is for, if that is not the
        record's.
        """
        rows = [found.row]
        document: Document = {
            "jsonapi": _VERSION,
            "data": self._object(resource, found.row, found.included, shown),
            "links": {
                "self": shown.parameters.url(path or self.location(resource, found.row, shown.base))
            },
            "meta": {"cursor": shown.cursor},
        }
        included = found.included
        return self._with_included(document, resource, rows, included, shown)

    def state(self, resource: ResourceType, row: Row) -> str:
        """A tag for a record as its attributes and to-one relationships show it."""
        return state_tag([row[name] for name in self._columns[resource.name]])

    def collection(
        self,
        resource: ResourceType,
        page: Page,
        shown: Shown,
        path: str | None = None,
    ) -> Document:
        """The document of one page of records; what may be many is made when it is encoded.
        ``path`` is the URL path that it is for, if that is not the resource's.
        """
        document: Document = {
            "jsonapi": _VERSION,
            "data": (self._entry(resource, r, page, shown) for r in page.rows),
            "links": _page_links(path or f"{shown.base}/{resource.name}", page, shown.parameters),
            "meta": _page_meta(page, shown),
        }
        rows, included = page.rows, page.included
        return self._with_included(document, resource, rows, included, shown)

    def nothing(self, shown: Shown, path: str) -> Document:
        """The document of a related record where there is none."""
        links = {"self": shown.parameters.url(path)}
        meta = {"cursor": shown.cursor}
        document: Document = {"jsonapi": _VERSION, "data": None, "links": links, "meta": meta}
        if shown.parameters.includes:
            document["included"] = []
        return document

    def to_one_linkage(
        self,
        resource: ResourceType,
        relationship: Relationship,
        found: Found,
        shown: Shown,
    ) -> Document:
        """The document of a to-one relationship."""
        place = self.location(resource, found.row, shown.base)
        links = _links(place, resource.member_name(relationship.name))
        document: Document = {
            "jsonapi": _VERSION,
            "data": _one(relationship, found.row),
            "links": links | {"self": shown.parameters.url(links["self"])},
            "meta": {"cursor": shown.cursor},
        }
        return self._with_included(document, resource, [], found.included, shown)

    def others_linkage(
        self,
        resource: ResourceType,
        relationship: Relationship,
        page: Page,
        shown: Shown,
        place: str,
        *,
        shows: bool,
    ) -> Document:
        """The document of a relationship of the record at ``place`` whose key others hold: of one
        page of them where it is a to-many one. ``shows``: they themselves come along.
        """
        links = _links(place, resource.member_name(relationship.name))
        target = self._registry[relationship.target]
        paging = {"self": shown.parameters.url(links["self"])}
        meta: Document = {"cursor": shown.cursor}
        if relationship.to_many:
            paging = _page_links(links["self"], page, shown.parameters)
            meta = _page_meta(page, shown)
        document: Document = {
            "jsonapi": _VERSION,
            "data": _linkage(relationship, [row["id"] for row in page.rows]),
            "links": paging | {"related": links["related"]},
            "meta": meta,
        }
        rows = [] if shows else page.rows
        if shows:
            page.included.records.update({(target.name, row["id"]): row for row in page.rows})
        return self._with_included(document, target, rows, page.included, shown)

    def location(self, resource: ResourceType, row: Row, base: str) -> str:
        """The URL path of a record."""
        key = str(row["id"])
        if resource.id_type == "string":  # others have nothing in them that a URL would escape
            key = quote(key, safe="")
        return f"{base}/{resource.name}/{key}"

    def _with_included(
        self,
        document: Document,
        resource: ResourceType,
        rows: list[Row],
        included: Included,
        shown: Shown,
    ) -> Document:
        if included.asked or shown.parameters.includes:
            primary = {(resource.name, row["id"]) for row in rows}
            document["included"] = (
                self._object(self._registry[key[0]], row, included, shown)
                for key, row in included.records.items()
                if key not in primary
            )
        return document

    def _entry(self, resource: ResourceType, row: Row, page: Page, shown: Shown) -> Document:
        entry = self._object(resource, row, page.included, shown)
        if page.selection.keyset is not None:
            # As the cursor pagination profile has it.
            entry["meta"] = {"page": {"cursor": place_of(row, page.selection.sort)}}
        return entry

    def _object(
        self,
        resource: ResourceType,
        row: Row,
        included: Included,
        shown: Shown,
    ) -> Document:
        wanted = shown.fields.get(resource.name)
        names = self._attributes[resource.name]
        if wanted is not None:
            names = [name for name in names if name in wanted]
        result: Document = {"type": resource.name, "id": str(row["id"])}
        made = self._made[resource.name]
        result["attributes"] = (
            {name: made[name](row) if name in made else row[name] for name in names}
            if made
            else {name: row[name] for name in names}
        )
        place = self.location(resource, row, shown.base)
        relationships = self._relationships(resource, row, included, wanted, place)
        spelled = self._spelled.get(resource.name)
        if spelled is not None:
            given = result["attributes"]
            result["attributes"] = {spelled[name]: value for name, value in given.items()}
        if relationships:
            result["relationships"] = relationships
        result["links"] = {"self": place}
        return result

    def _relationships(
        self,
        resource: ResourceType,
        row: Row,
        included: Included,
        wanted: frozenset[str] | None,
        place: str,
    ) -> Document:
        result: Document = {}
        spelled = self._spelled.get(resource.name, {})
        for name, relationship in resource.relationships.items():
            member = spelled.get(name, name)
            if wanted is not None and name not in wanted:
                continue
            if not relationship.is_own:
                # Without its links a client would take what was not loaded for none.
                shown: Document = {"links": _links(place, member)}
                members = included.members.get((resource.name, row["id"], name))
                if members is not None:
                    shown["data"] = _linkage(relationship, members)
                result[member] = shown
            elif not resource.fields[relationship.foreign_key].hidden:
                result[member] = {"links": _links(place, member), "data": _one(relationship, row)}
        return result


def _identifier(kind: str, key: object) -> Mapping[str, str]:
    return {"type": kind, "id": str(key)}


def _one(relationship: Relationship, row: Row) -> Mapping[str, str] | None:
    kind, key = relationship.type_of(row), row[relationship.foreign_key]
    return None if key is None or kind is None else _identifier(kind, key)


def _linkage(relationship: Relationship, members: Sequence[object]) -> Any:
    """That of a relationship whose key others hold."""
    found = [_identifier(relationship.target, key) for key in members]
    return found if relationship.to_many else next(iter(found), None)


def _links(place: str, name: str) -> dict[str, str]:
    """Of a relationship of the record at this URL path."""
    return {"self": f"{place}/relationships/{name}", "related": f"{place}/{name}"}


def _page_meta(page: Page, shown: Shown) -> Document:
    numbers: Document = {"size": page.size}
    if page.selection.keyset is None:
        numbers = {"number": page.number, **numbers}
    if page.total is not None:
        numbers |= {"total": page.total, "pages": page.pages}
    if shown.parameters.by_offset:
        numbers |= {"offset": page.offset, "limit": page.size}
    return {"page": numbers, "cursor": shown.cursor}


def _page_links(path: str, page: Page, parameters: Parameters) -> Document:
    query = parameters.without_page()
    if page.selection.keyset is not None:
        return _keyset_links(f"{path}?{query}", page, page.selection.keyset)
    name = "offset" if parameters.by_offset else "number"

    def link(offset: int) -> str:
        place = offset if parameters.by_offset else offset // page.size + 1
        return f"{path}?{query}page%5B{name}%5D={place}"

    before, after = page.offset - page.size, page.offset + page.size
    last = None if page.pages is None else (page.pages - 1) * page.size
    if last is not None:
        before = min(before, last)
    return {
        "self": link(page.offset),
        "first": link(0),
        "prev": link(max(0, before)) if page.offset > 0 else None,
        "next": link(after) if page.has_more else None,
        "last": None if last is None else link(last),
    }


def _keyset_links(base: str, page: Page, keyset: Keyset) -> Document:
    """Whether there is something on the side that a page came from is not looked up."""
    sort, rows = page.selection.sort, page.rows

    def link(name: str, place: str) -> str:
        return f"{base}page%5B{name}%5D={place}"

    def beyond(name: str, *, is_behind: bool) -> str | None:
        there_is = keyset.values is not None if is_behind else page.has_more
        if not rows or not there_is:
            return None
        return link(name, place_of(rows[-1 if name == "after" else 0], sort))

    given = "" if keyset.values is None else keyset.text
    return {
        "self": link("before" if keyset.backward else "after", given),
        "first": link("after", ""),
        "prev": beyond("before", is_behind=not keyset.backward),
        "next": beyond("after", is_behind=keyset.backward),
        "last": link("before", ""),
    }
