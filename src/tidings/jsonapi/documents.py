"""JSON:API documents: what goes out (JSON:API 1.1, chapter 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tidings.jsonapi.parameters import Parameters
from tidings.resources import Fieldsets, Found, Included, Page
from tidings.schema import Relationship, ResourceRegistry, ResourceType
from tidings.storage import Row

Document = dict[str, Any]
_VERSION = {"version": "1.1"}


class DocumentWriter:
    """Turns rows into documents; ``base`` is the URL path below which the resources are."""

    def __init__(self, registry: ResourceRegistry) -> None:
        self._registry = registry
        self._attributes = {
            resource.name: [
                name
                for name, field in resource.fields.items()
                if field.is_attribute and not field.hidden
            ]
            for resource in registry
        }

    def item(
        self,
        resource: ResourceType,
        found: Found,
        fields: Fieldsets,
        base: str,
        parameters: Parameters,
        cursor: str,
    ) -> Document:
        """The document of one record."""
        rows = [found.row]
        document: Document = {
            "jsonapi": _VERSION,
            "data": self._object(resource, found.row, found.included, fields, base),
            "links": {"self": parameters.url(self.location(resource, found.row, base))},
            "meta": {"cursor": cursor},
        }
        included = found.included
        return self._with_included(document, resource, rows, included, fields, base, parameters)

    def collection(
        self,
        resource: ResourceType,
        page: Page,
        fields: Fieldsets,
        base: str,
        parameters: Parameters,
        cursor: str,
    ) -> Document:
        """The document of one page of records; what may be many is made when it is encoded."""
        document: Document = {
            "jsonapi": _VERSION,
            "data": (self._object(resource, r, page.included, fields, base) for r in page.rows),
            "links": _page_links(f"{base}/{resource.name}", page, parameters),
            "meta": {
                "page": {
                    "number": page.number,
                    "size": page.size,
                    "total": page.total,
                    "pages": page.pages,
                },
                "cursor": cursor,
            },
        }
        rows, included = page.rows, page.included
        return self._with_included(document, resource, rows, included, fields, base, parameters)

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
        fields: Fieldsets,
        base: str,
        parameters: Parameters,
    ) -> Document:
        if included.asked or parameters.includes:
            primary = {(resource.name, row["id"]) for row in rows}
            document["included"] = (
                self._object(self._registry[key[0]], row, included, fields, base)
                for key, row in included.records.items()
                if key not in primary
            )
        return document

    def _object(
        self,
        resource: ResourceType,
        row: Row,
        included: Included,
        fields: Fieldsets,
        base: str,
    ) -> Document:
        wanted = fields.get(resource.name)
        names = self._attributes[resource.name]
        if wanted is not None:
            names = [name for name in names if name in wanted]
        result: Document = {"type": resource.name, "id": str(row["id"])}
        result["attributes"] = {name: row[name] for name in names}
        relationships = self._relationships(resource, row, included, wanted)
        if relationships:
            result["relationships"] = relationships
        result["links"] = {"self": self.location(resource, row, base)}
        return result

    def _relationships(
        self,
        resource: ResourceType,
        row: Row,
        included: Included,
        wanted: frozenset[str] | None,
    ) -> Document:
        result: Document = {}
        for name, relationship in resource.relationships.items():
            if wanted is not None and name not in wanted:
                continue
            if relationship.to_many:
                members = included.members.get((resource.name, row["id"], name))
                if members is not None:
                    data: Any = [_identifier(relationship, key) for key in members]
                    result[name] = {"data": data}
            elif not resource.fields[relationship.foreign_key].hidden:
                key = row[relationship.foreign_key]
                result[name] = {"data": None if key is None else _identifier(relationship, key)}
        return result


def _identifier(relationship: Relationship, key: object) -> Mapping[str, str]:
    return {"type": relationship.target, "id": str(key)}


def _page_links(path: str, page: Page, parameters: Parameters) -> Document:
    query = parameters.without_page()

    def link(number: int) -> str:
        return f"{path}?{query}page%5Bnumber%5D={number}"

    return {
        "self": link(page.number),
        "first": link(1),
        "prev": link(min(page.number - 1, page.pages)) if page.number > 1 else None,
        "next": link(page.number + 1) if page.number < page.pages else None,
        "last": link(page.pages),
    }
