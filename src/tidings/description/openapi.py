"""An OpenAPI 3.1 document of the resources, as one who asks may know them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from tidings.description.names import component_names
from tidings.description.schemas import (
    Schema,
    filter_schema,
    id_schema,
    new_value_schema,
    operators_of,
    value_schema,
)
from tidings.resources.keysets import MAX_PLACE
from tidings.schema import Field, Relationship, ResourceRegistry, ResourceType, SearchField
from tidings.schema.fields import MISSING

OPENAPI_VERSION: Final = "3.1.0"
_MEDIA_TYPE: Final = "application/vnd.api+json"
_BY_ID: Final = SearchField("id", "id", "in", ("id",))
Document = dict[str, Any]


def openapi_document(
    registry: ResourceRegistry,
    *,
    title: str,
    version: str,
    prefix: str = "",
    only: Collection[str] | None = None,
    secured: bool = True,
    atomic: bool = False,
) -> Document:
    """Describe resources below a URL path.

    ``registry`` is that of who asks (`ResourceRegistry.seen_by`): a field that they may not read
    is not there. ``only`` names the resources that are described, None: all; relationships to
    others are shown as far as documents show them. ``secured``: a bearer token may be sent.
    ``atomic``: many operations may be sent at once.
    """
    served = [one for one in registry if not one.is_internal]
    shown = [one for one in served if only is None or one.name in only]
    names = component_names(one.name for one in served)
    writer = _Writer(registry, names, {one.name for one in shown})
    paths: Document = {}
    for resource in shown:
        writer.describe(resource)
        paths |= {f"{prefix}{path}": item for path, item in writer.paths(resource).items()}
    if atomic and registry.get("operations") is None:
        paths[f"{prefix}/operations"] = {"post": _OPERATE}
    components: Document = {
        "schemas": dict(sorted(writer.schemas.items())) | _COMMON,
        "responses": {
            "Error": _response("What was wrong", "ErrorDocument"),
            "NotModified": {"description": "The client has it already", "headers": _HEADERS},
        },
        "headers": {
            name: {"description": description, "schema": {"type": "string"}}
            for name, description in (
                ("ETag", "Names this state, for If-None-Match and If-Match"),
                ("Cursor", "A place in the order of changes: meta.cursor"),
            )
        },
        "parameters": {
            name.replace("-", ""): {"name": name, "in": "header", "schema": {"type": "string"}}
            | {"description": description}
            for name, description in (
                ("If-None-Match", "An ETag: 304 where there is nothing new"),
                ("If-Match", "An ETag: 412 where the record has changed since"),
            )
        },
    }
    document: Document = {
        "openapi": OPENAPI_VERSION,
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": components,
        "tags": [{"name": one.name} for one in shown],
    }
    if secured:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
        }
        # Whether a token is needed is the resource's business.
        document["security"] = [{}, {"bearer": []}]
    return document


class _Writer:
    """Collects the schemas of resources, and writes their paths."""

    def __init__(
        self, registry: ResourceRegistry, names: Mapping[str, str], shown: Collection[str]
    ) -> None:
        self.schemas: dict[str, Schema] = {}
        self._registry = registry
        self._names = names
        self._shown = shown

    # Schemas

    def describe(self, resource: ResourceType) -> None:
        """Add the schemas of a resource."""
        name = self._names[resource.name]
        spell = resource.member_name
        attributes = {spell(key): one for key, one in resource.attributes.items()}
        declared = {**resource.fields, **resource.virtual}
        writable = {
            spell(key): one for key, one in declared.items() if one.is_attribute and one.is_writable
        }
        links = {spell(key): one for key, one in self._relationships(resource).items()}
        identity = {"type": {"const": resource.name}, "id": id_schema(resource)}
        self.schemas[f"{name}Attributes"] = _object(
            {key: value_schema(one) for key, one in attributes.items()}, attributes
        )
        if links:
            self.schemas[f"{name}Relationships"] = _object(
                {key: self._shown_relationship(one) for key, one in links.items()}, links
            )
        self.schemas[f"{name}Identifier"] = _object(identity, identity)
        members = {"attributes": _ref(f"{name}Attributes")}
        if links:
            members["relationships"] = _ref(f"{name}Relationships")
        own = identity | members | {"links": _object({"self": _URL}, ["self"])}
        self.schemas[name] = _object(own, own)
        self._describe_writes(resource, name, writable, links)
        self._describe_documents(name, links)

    def _describe_writes(
        self,
        resource: ResourceType,
        name: str,
        writable: Mapping[str, Field],
        links: Mapping[str, Relationship],
    ) -> None:
        needed = [key for key, one in writable.items() if _is_needed(one)]
        needed_links = [
            key
            for key, one in links.items()
            if one.is_own and _is_needed(resource.fields[one.foreign_key])
        ]
        fresh = {key: new_value_schema(one) for key, one in writable.items() if not one.version}
        values = {key: value_schema(one) for key, one in writable.items()}
        targets = {key: self._written_relationship(one) for key, one in links.items()}
        is_new: Schema = {"type": {"const": resource.name}}
        if resource.client_ids:
            is_new["id"] = id_schema(resource)
        for suffix, own, fields, required, required_links in (
            ("Create", is_new, fresh, needed, needed_links),
            ("Update", is_new | {"id": id_schema(resource)}, values, [], []),
        ):
            members = own | {"attributes": _object(fields, required, closed=True)}
            if links:
                members["relationships"] = _object(targets, required_links, closed=True)
            wanted = ["type", *(["id"] if suffix == "Update" else [])]
            wanted += ["attributes"] if required else []
            wanted += ["relationships"] if required_links else []
            self.schemas[f"{name}{suffix}"] = _object(members, wanted)
            self.schemas[f"{name}{suffix}Document"] = _object(
                {"data": _ref(f"{name}{suffix}")}, ["data"]
            )

    def _describe_documents(self, name: str, links: Mapping[str, Relationship]) -> None:
        common: Schema = {"jsonapi": _ref("JsonApi"), "meta": _ref("Meta"), "links": _ref("Links")}
        needed = ["jsonapi", "data", "links", "meta"]
        included = self._included(links.values())
        if included is not None:
            self.schemas[f"{name}Included"] = included
            common["included"] = {"type": "array", "items": _ref(f"{name}Included")}
        one, many = _ref(name), {"type": "array", "items": _ref(name)}
        paged = common | {"meta": _ref("PageMeta"), "links": _ref("PageLinks")}
        self.schemas[f"{name}Document"] = _object(common | {"data": one}, needed)
        self.schemas[f"{name}List"] = _object(paged | {"data": many}, needed)

    def _included(self, links: Iterable[Relationship]) -> Schema | None:
        """Anything that a path of ``include`` can lead to."""
        found: dict[str, None] = {}
        waiting = [name for link in links for name in link.types]
        while waiting:
            target = waiting.pop()
            if target not in found and target in self._shown:
                found[target] = None
                waiting += [
                    name
                    for one in self._relationships(self._registry[target]).values()
                    for name in one.types
                ]
        if not found:
            return None
        names = {target: self._names[target] for target in sorted(found)}
        mapping = {target: f"#/components/schemas/{one}" for target, one in names.items()}
        return {
            "oneOf": [_ref(one) for one in names.values()],
            "discriminator": {"propertyName": "type", "mapping": mapping},
        }

    def _relationships(self, resource: ResourceType) -> dict[str, Relationship]:
        """Those that documents show."""
        return {
            name: link
            for name, link in resource.relationships.items()
            if not link.is_own or not resource.fields[link.foreign_key].hidden
        }

    def _identifier(self, name: str) -> Schema:
        if name in self._shown:
            return _ref(f"{self._names[name]}Identifier")
        members = {"type": {"const": name}, "id": id_schema(self._registry[name])}
        return _object(members, members)

    def _linkage(self, link: Relationship, *, is_nullable: bool = True) -> Schema:
        some = [self._identifier(name) for name in link.types]
        if link.to_many:
            return {"type": "array", "items": some[0]}
        if is_nullable:
            some.append({"type": "null"})
        return {"oneOf": some} if len(some) > 1 else some[0]

    def _shown_relationship(self, link: Relationship) -> Schema:
        members = {"links": _ref("RelationshipLinks"), "data": self._linkage(link)}
        return _object(members, ["links", "data"] if link.is_own else ["links"])

    def _written_relationship(self, link: Relationship) -> Schema:
        return _object({"data": self._linkage(link)}, ["data"])

    # Paths

    def paths(self, resource: ResourceType) -> Document:
        """The paths of a resource."""
        name = self._names[resource.name]
        record = {"name": "id", "in": "path", "required": True, "schema": id_schema(resource)}
        shown = [*self._shown_parameters(resource)]
        found: Document = {
            f"/{resource.name}": {
                "get": self._operation(
                    resource, f"list{_plural(name)}", f"{name}List", self._parameters(resource)
                ),
                "post": self._operation(
                    resource, f"create{name}", f"{name}Document", shown, f"{name}Create", "201"
                ),
            },
            f"/{resource.name}/{{id}}": {
                "parameters": [record],
                "get": self._operation(resource, f"get{name}", f"{name}Document", shown),
                "patch": self._operation(
                    resource, f"update{name}", f"{name}Document", shown, f"{name}Update"
                ),
                "put": self._operation(
                    resource, f"replace{name}", f"{name}Document", shown, f"{name}Update"
                ),
                "delete": self._operation(resource, f"delete{name}"),
            },
        }
        if resource.client_ids:
            put = found[f"/{resource.name}/{{id}}"]["put"]
            made = _response("It was made", f"{name}Document") | {"headers": _HEADERS}
            put["responses"]["201"] = made
        for key, link in self._relationships(resource).items():
            if any(name in self._shown for name in link.types):
                found |= self._relationship_paths(resource, name, record, key, link)
        return _open_to_somebody(found, resource)

    def _relationship_paths(
        self, resource: ResourceType, name: str, record: Schema, key: str, link: Relationship
    ) -> Document:
        label = f"{name}{key[:1].upper()}{key[1:]}"
        linkage = f"{label}Linkage"
        body = _object({"data": self._linkage(link)}, ["data"])
        self.schemas[f"{linkage}Write"] = body
        common = {"jsonapi": _ref("JsonApi"), "meta": _ref("Meta"), "links": _ref("Links")}
        needed = ["jsonapi", "data", "links", "meta"]
        if link.to_many:
            common |= {"meta": _ref("PageMeta"), "links": _ref("PageLinks")}
            target = self._registry[link.target]
            related, parameters = f"{self._names[link.target]}List", [*self._parameters(target)]
        else:
            others = [name for name in link.types if name in self._shown]
            names = [self._names[name] for name in others]
            related = f"{'Or'.join(names)}DocumentOrNull"
            nothing = _object(common | {"data": {"type": "null"}}, needed)
            documents = [_ref(f"{other}Document") for other in names]
            self.schemas[related] = {"oneOf": [*documents, nothing]}
            some = [one for name in others for one in self._shown_parameters(self._registry[name])]
            parameters = list({str(one["name"]): one for one in some}.values())
        self.schemas[linkage] = _object(common | {"data": self._linkage(link)}, needed)
        methods = {"patch": "replace"} | (
            {"post": "add", "delete": "remove"} if link.to_many else {}
        )
        writes = {
            method: self._operation(resource, f"{verb}{label}", None, [], f"{linkage}Write")
            for method, verb in methods.items()
        }
        member = resource.member_name(key)
        paging = [*_paging(self._registry[link.target])] if link.to_many else []
        return {
            f"/{resource.name}/{{id}}/{member}": {
                "parameters": [record],
                "get": self._operation(resource, f"get{label}", related, parameters),
            },
            f"/{resource.name}/{{id}}/relationships/{member}": {
                "parameters": [record],
                "get": self._operation(resource, f"get{linkage}", linkage, paging),
                **writes,
            },
        }

    def _operation(
        self,
        resource: ResourceType,
        operation: str,
        answer: str | None = None,
        parameters: Iterable[Schema] = (),
        body: str | None = None,
        status: str = "200",
    ) -> Document:
        is_written = body is not None and answer is not None
        found: Document = {"operationId": operation, "tags": [resource.name]}
        is_read = body is None and answer is not None
        parameters = list(parameters)
        if is_read:
            parameters.append({"$ref": "#/components/parameters/IfNoneMatch"})
        elif not operation.startswith(("create", "add", "remove")):
            parameters.append({"$ref": "#/components/parameters/IfMatch"})
        if parameters:
            found["parameters"] = parameters
        if body is not None:
            schema = _ref(f"{body}Document" if is_written else body)
            found["requestBody"] = {"required": True, "content": {_MEDIA_TYPE: {"schema": schema}}}
        if answer is None:
            found["responses"] = {"204": {"description": "Done", "headers": _CURSOR}}
        else:
            found["responses"] = {status: _response("The answer", answer) | {"headers": _HEADERS}}
        if is_read:
            found["responses"]["304"] = {"$ref": "#/components/responses/NotModified"}
        found["responses"]["default"] = {"$ref": "#/components/responses/Error"}
        return found

    def _parameters(self, resource: ResourceType) -> list[Schema]:
        """Those of a list."""
        spell = resource.member_name
        filters = {"id": _BY_ID}
        filters |= {spell(name): entry for name, entry in (resource.search or {}).items()}
        found = [
            _parameter(f"filter[{name}]", filter_schema(resource, entry))
            for name, entry in filters.items()
        ]
        found += [
            _parameter(f"filter[{name}][{operator}]", filter_schema(resource, chosen))
            for name, entry in filters.items()
            for operator, chosen in operators_of(entry)
        ]
        names = [
            spell(name)
            for name in ("id", *resource.fields, *resource.related)
            if resource.sortable(name)
        ]
        order = [sign + name for name in names for sign in ("", "-")]
        found.append(_parameter("sort", {"type": "array", "items": {"enum": order}}))
        return [*found, *_paging(resource), *self._shown_parameters(resource)]

    def _shown_parameters(self, resource: ResourceType) -> Iterable[Schema]:
        """What an answer is to show."""
        links = [resource.member_name(name) for name in self._relationships(resource)]
        texts: Schema = {"type": "array", "items": {"type": "string"}}
        if links:
            example = next(iter(links))
            yield _parameter(
                "include", texts, f"Paths of relationships, as `{example}`: those of this resource "
                f"are {', '.join(links)}"
            )  # fmt: skip
        yield _parameter(
            f"fields[{resource.name}]",
            texts,
            "Only these members of attributes and relationships, also of those that are required",
        )


def _open_to_somebody(paths: Document, resource: ResourceType) -> Document:
    """The operations that the rules of a resource do not deny to everybody. What a
    ``check_permissions`` would say is not known before there is a request.
    """
    rules = resource.rules
    if rules is None:
        return paths
    found: Document = {}
    for path, item in paths.items():
        is_collection = path == f"/{resource.name}"
        is_record = path == f"/{resource.name}/{{id}}"
        kept = {
            key: value
            for key, value in item.items()
            if key == "parameters"
            or not rules.is_closed(
                ("query" if is_collection else "get")
                if key == "get"
                # To write a relationship is to patch its record.
                else key
                if is_collection or is_record
                else "patch"
            )
        }
        if kept.keys() - {"parameters"}:
            found[path] = kept
    return found


_CURSOR: Final[Schema] = {"Tidings-Cursor": {"$ref": "#/components/headers/Cursor"}}
_HEADERS: Final[Schema] = {"ETag": {"$ref": "#/components/headers/ETag"}} | _CURSOR
_URL: Final[Schema] = {"type": "string", "format": "uri-reference"}


def _object(
    properties: Mapping[str, Schema], required: Iterable[str] = (), *, closed: bool = False
) -> Schema:
    found: Schema = {"type": "object", "properties": dict(properties)}
    needed = list(required)
    if needed:
        found["required"] = needed
    if closed:
        found["additionalProperties"] = False
    return found


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _response(description: str, schema: str) -> Document:
    return {"description": description, "content": {_MEDIA_TYPE: {"schema": _ref(schema)}}}


def _parameter(name: str, schema: Schema, description: str = "") -> Schema:
    found: Schema = {"name": name, "in": "query", "schema": schema}
    if description:
        found["description"] = description
    if schema["type"] == "array":
        found |= {"style": "form", "explode": False}
    elif schema["type"] == "object":
        found |= {"style": "deepObject", "explode": True}
    return found


def _paging(resource: ResourceType) -> Iterable[Schema]:
    yield _parameter("page[number]", {"type": "integer", "minimum": 1, "default": 1})
    most = resource.max_page_size
    size = {"type": "integer", "minimum": 1, "maximum": most, "default": resource.page_size}
    yield _parameter("page[size]", size)
    instead = "Instead of page[number] and page[size]"
    yield _parameter("page[offset]", {"type": "integer", "minimum": 0}, instead)
    yield _parameter("page[limit]", size, instead)
    place: Schema = {"type": "string", "maxLength": MAX_PLACE}
    yield _parameter("page[after]", place, "What a link `next` gave; empty: from the first")
    yield _parameter("page[before]", place, "What a link `prev` gave; empty: the last")
    count = "Whether to count all: by default with page[number] and page[offset] only"
    yield _parameter("page[count]", {"type": "string", "enum": ["true", "false"]}, count)


def _is_needed(field: Field) -> bool:
    return field.required and field.default is MISSING


def _plural(name: str) -> str:
    return name if name.endswith("s") else f"{name}s"


_ATOMIC: Final = f'{_MEDIA_TYPE}; ext="https://jsonapi.org/ext/atomic"'
_OPERATE: Final[Document] = {
    "operationId": "operate",
    "tags": ["operations"],
    "description": "Atomic Operations: all of them are done, or none",
    "requestBody": {
        "required": True,
        "content": {_ATOMIC: {"schema": _ref("AtomicOperations")}},
    },
    "responses": {
        "200": {
            "description": "The results, in order",
            "headers": _CURSOR,
            "content": {_ATOMIC: {"schema": _ref("AtomicResults")}},
        },
        "204": {"description": "Done", "headers": _CURSOR},
        "default": {"$ref": "#/components/responses/Error"},
    },
}
_PAGE: Final = ("number", "size", "total", "pages", "offset", "limit")
_COMMON: Final[dict[str, Schema]] = {
    "JsonApi": _object({"version": {"const": "1.1"}}, ["version"]),
    "Links": _object({"self": _URL}, ["self"]),
    "RelationshipLinks": _object({"self": _URL, "related": _URL}, ["self", "related"]),
    "PageLinks": _object(
        {"self": _URL}
        | {name: {"type": ["string", "null"]} for name in ("first", "prev", "next", "last")},
        ["self", "first", "prev", "next", "last"],
    ),
    "Meta": _object(
        {
            "cursor": {
                "type": "string",
                "description": "A place in the order of changes, before what was read",
            }
        },
        ["cursor"],
    ),
    "PageMeta": _object(
        {
            "cursor": {"type": "string"},
            "page": _object(
                {name: {"type": "integer"} for name in _PAGE},
                ["size"],
            ),
        },
        ["cursor", "page"],
    ),
    "AtomicOperations": _object(
        {
            "atomic:operations": {
                "type": "array",
                "minItems": 1,
                "items": _object(
                    {
                        "op": {"type": "string", "enum": ["add", "update", "remove"]},
                        "ref": {"type": "object"},
                        "href": {"type": "string"},
                        "data": {"type": ["object", "array", "null"]},
                    },
                    ["op"],
                ),
            }
        },
        ["atomic:operations"],
    ),
    "AtomicResults": _object(
        {
            "jsonapi": _ref("JsonApi"),
            "atomic:results": {
                "type": "array",
                "items": _object({"data": {"type": "object"}}),
            },
            "meta": _ref("Meta"),
        },
        ["atomic:results", "meta"],
    ),
    "ErrorDocument": _object(
        {
            "jsonapi": _ref("JsonApi"),
            "errors": {
                "type": "array",
                "items": _object(
                    {
                        "id": {"type": "string"},
                        "status": {"type": "string"},
                        "code": {"type": "string"},
                        "title": {"type": "string"},
                        "detail": {"type": "string"},
                        "source": _object(
                            {
                                name: {"type": "string"}
                                for name in ("pointer", "parameter", "header")
                            }
                        ),
                        "meta": {"type": "object"},
                    },
                    ["status", "code", "title", "detail"],
                ),
            },
        },
        ["errors"],
    ),
}
