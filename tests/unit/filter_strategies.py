"""Random resources, records and filters: what the proof of the filters is made with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from tidings.schema import ResourceRegistry, ResourceType, declare_resource
from tidings.schema.types import INT64_MAX, INT64_MIN

# Letters whose lower case is longer, shared, or depends on what follows; wildcards; blanks.
_LETTERS = "aAbB%_\\ 'İIıiẞßΣσςÀàÅÅǅﬀﬁſKk\u0307\u0301é\U0001f600\U00010400ͅ0"  # noqa: RUF001
_text = st.text(st.sampled_from(_LETTERS) | st.characters(exclude_categories=["Cs"]), max_size=5)
text = _text.filter(lambda value: "\x00" not in value)
_edges = [2**53 - 1, 2**53, 2**53 + 1, 10**15, 10**17, INT64_MAX, INT64_MIN, -1, 0, 1, 7]
integers = st.sampled_from(_edges) | st.integers(INT64_MIN, INT64_MAX)
floats = st.sampled_from([0.0, -0.0, 0.1, 1e308, 5e-324, 2.0**53, 1e16, -7.0]) | st.floats(
    allow_nan=False, allow_infinity=False
)
numbers = floats | integers
dates = st.sampled_from([date.min, date.max, date(2024, 2, 29)]) | st.dates()
_zones = st.sampled_from([UTC, None, timezone(timedelta(hours=14)), timezone(-timedelta(hours=12))])
moments = st.sampled_from(
    [
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        datetime(1, 1, 1, 0, 0, 0, 1, UTC),
        datetime(2024, 2, 29, 23, 59, 59, 999999, UTC),
        datetime(2024, 3, 1, tzinfo=UTC),
    ]
) | st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=_zones)
times = st.sampled_from([time.min, time.max, time(12, 0, 0, 1)]) | st.times()
keys = st.sampled_from(["7", "07", "007", "a", "A", "a ", "é", "e\u0301"]) | text.filter(bool)
uuids = st.uuids().map(str) | st.uuids().map(lambda value: str(value).upper())


@st.composite
def decimals(draw: st.DrawFn, scale: int, *, storable: bool) -> Decimal:
    places = scale if storable else draw(st.integers(0, scale + 6))
    digits = 18 if storable else draw(st.sampled_from([3, 15, 16, 18, 22]))
    number = draw(st.sampled_from([0, 1, 10**15, 10**17 + 1]) | st.integers(0, 10**digits - 1))
    return Decimal(number).scaleb(-places) * draw(st.sampled_from([1, -1]))


LISTED = ("in", "between")


@dataclass(frozen=True)
class Kind:
    """A kind of column: its options, and values for it as they may come from outside."""

    name: str
    options: dict[str, Any]
    stored: st.SearchStrategy[Any]
    asked: st.SearchStrategy[Any]

    @property
    def is_ordered(self) -> bool:
        return self.name not in ("boolean", "array", "object")

    @property
    def has_text(self) -> bool:
        return self.name in ("string", "text", "id")


def _decimal(precision: int, scale: int) -> Kind:
    stored = decimals(scale, storable=True).filter(
        lambda value: abs(value) < Decimal(10) ** (precision - scale)
    )
    asked = decimals(scale, storable=False) | st.integers(-(10**25), 10**25) | floats
    options = {"type": "decimal", "precision": precision, "scale": scale}
    return Kind("decimal", options, stored, stored | asked | asked.map(str))


def _reference(target: str, values: st.SearchStrategy[Any], asked: st.SearchStrategy[Any]) -> Kind:
    options = {"type": "id", "belongs_to": target, "constraint": False}
    return Kind("reference", options, values, values | asked)


_KINDS = [
    Kind("string", {"type": "string"}, text, text),
    Kind("text", {"type": "text"}, text, text),
    Kind("id", {"type": "id"}, keys, keys | st.integers(-3, 9)),
    Kind("number", {"type": "number"}, numbers, numbers | numbers.map(str)),
    Kind("integer", {"type": "integer"}, integers, integers | integers.map(str) | numbers),
    _decimal(18, 4),
    _decimal(18, 0),
    _decimal(12, 6),
    _decimal(18, 17),
    Kind("boolean", {"type": "boolean"}, st.booleans(), st.sampled_from([True, False, 0, 1, "1"])),
    Kind("date", {"type": "date"}, dates, dates | dates.map(str)),
    Kind("dateTime", {"type": "dateTime"}, moments, moments | moments.map(datetime.isoformat)),
    Kind("time", {"type": "time"}, times, times | times.map(str)),
    Kind("array", {"type": "array"}, st.lists(integers, max_size=2), st.nothing()),
    Kind("object", {"type": "object"}, st.dictionaries(text, integers, max_size=2), st.nothing()),
    _reference("numbered", integers, st.sampled_from(["7", "007", "-1", 2**53])),
    _reference("lettered", keys, keys),
    _reference("uuids", uuids, uuids.map(lambda value: value.replace("-", ""))),
]


@dataclass(frozen=True)
class World:
    """A resource with its kinds of columns, some records, and filters to hold against them."""

    registry: ResourceRegistry
    resource: ResourceType
    kinds: dict[str, Kind]
    records: list[dict[str, Any]]
    client_filters: list[dict[str, Any]]
    clauses: list[dict[str, Any]]


@st.composite
def worlds(draw: st.DrawFn, *, filters: int = 4) -> World:
    chosen = draw(st.lists(st.sampled_from(_KINDS), min_size=1, max_size=5))
    kinds = {f"c{number}": kind for number, kind in enumerate(chosen)}
    # Few values per column, so that records and filters meet.
    pools = {
        name: draw(st.lists(kind.stored, min_size=1, max_size=3)) for name, kind in kinds.items()
    }
    search = {f"f{i}": draw(search_entries(kinds)) for i in range(draw(st.integers(1, 5)))}
    registry = ResourceRegistry()
    for target, id_type in (("numbered", "integer"), ("lettered", "string"), ("uuids", "uuid")):
        registry.add(declare_resource(target, {}, id_type=id_type))
    schema = {
        name: kind.options | ({"as_": f"r{name}"} if "belongs_to" in kind.options else {})
        for name, kind in kinds.items()
    }
    registry.add(declare_resource("things", schema, search_schema=search))
    registry.link()
    record = st.fixed_dictionaries(
        {name: st.none() | st.sampled_from(pools[name]) | kinds[name].stored for name in kinds}
    )
    asked = {
        name: st.sampled_from(pools[name]) | kind.asked
        for name, kind in kinds.items()
        if kind.name not in ("array", "object")
    }
    return World(
        registry,
        registry["things"],
        kinds,
        draw(st.lists(record, min_size=1, max_size=6)),
        draw(st.lists(client_filters(search, asked), min_size=filters, max_size=filters)),
        draw(st.lists(clauses(kinds, asked), min_size=filters, max_size=filters)),
    )


def operators(kind: Kind) -> list[str]:
    found = ["=", "!=", "in"]
    found += [">", ">=", "<", "<=", "between"] if kind.is_ordered else []
    return found + ["like"] * 3 * kind.has_text


@st.composite
def search_entries(draw: st.DrawFn, kinds: dict[str, Kind]) -> dict[str, Any]:
    usable = [name for name, kind in kinds.items() if kind.name not in ("array", "object")]
    if not usable:
        return {"type": "id", "actual_field": "id"}
    column = draw(st.sampled_from(usable))
    kind = kinds[column]
    entry: dict[str, Any] = {"filter_operator": draw(st.sampled_from(operators(kind)))}
    same = [name for name in usable if kinds[name] is kind]
    if len(same) > 1 and draw(st.booleans()):
        entry["one_of"] = same
    else:
        entry["actual_field"] = column
    if kind.name == "dateTime" and draw(st.booleans()):
        entry["type"] = "date"
    can_split = kind.name in ("string", "text") and entry["filter_operator"] not in LISTED
    if can_split and draw(st.booleans()):
        entry |= {"split_by": draw(st.sampled_from([" ", "a"])), "match_all": draw(st.booleans())}
    return entry


@st.composite
def client_filters(
    draw: st.DrawFn, search: dict[str, Any], asked: dict[str, st.SearchStrategy[Any]]
) -> dict[str, Any]:
    result = {}
    for name in draw(st.lists(st.sampled_from(sorted(search)), max_size=3, unique=True)):
        entry = search[name]
        column = entry["actual_field"] if "actual_field" in entry else entry["one_of"][0]
        values = asked.get(column, st.integers(0, 9))
        if entry.get("type") == "date":
            values = dates | values
        operator = entry.get("filter_operator", "=")
        result[name] = draw(operands(operator, values))
        if operator in ("=", "!=") and draw(st.integers(0, 9)) == 0:
            result[name] = None
    return result


def operands(operator: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    if operator == "in":
        return st.lists(values, max_size=5)
    if operator == "between":
        return st.lists(values, min_size=2, max_size=2)
    return values


def clauses(
    kinds: dict[str, Kind], asked: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    """Trusted clauses, with everything they may hold."""
    tests = [
        st.fixed_dictionaries({name: st.fixed_dictionaries({"is null": st.booleans()})})
        for name in kinds
    ]
    tests.append(st.fixed_dictionaries({"id": st.integers(0, 6) | st.lists(st.integers(0, 6))}))
    for name, values in asked.items():
        for operator in operators(kinds[name]):
            test = st.fixed_dictionaries({operator: operands(operator, values)})
            tests.append(st.fixed_dictionaries({name: test}))
        tests.append(st.fixed_dictionaries({name: values}))
    return st.recursive(
        st.one_of(tests),
        lambda inner: st.one_of(
            st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
            st.fixed_dictionaries({"$not": inner}),
            st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        ),
        max_leaves=6,
    )
