"""Random filters on a world's things: from clients, from trusted code, and trees as such."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Literal

import msgspec
from sqlalchemy import or_

from tests.proof.values import letter, near_text, text
from tests.proof.worlds import World
from tidings.errors import ConfigurationError, FilterError
from tidings.filters import (
    AllOf,
    AnyOf,
    Atom,
    Comparison,
    Expression,
    Not,
    Opaque,
    TextMatch,
    all_of,
    any_of,
    build_clause,
    build_filters,
    canonical,
    fold,
)
from tidings.filters.columns import cast_column, cast_element, has_many, holds_text
from tidings.filters.expression import ANY_CHARACTER
from tidings.filters.reading_constants import stored_type
from tidings.filters.text import lower, upper
from tidings.filters.values import (
    LIMIT,
    Arithmetic,
    Coalesce,
    Column,
    Constant,
    Length,
    Value,
    ValueKind,
    is_safe,
    kind_of,
)
from tidings.identity import ANONYMOUS
from tidings.schema import ValueProblem, cast

COMPARED: tuple[Any, ...] = ("=", "!=", ">", ">=", "<", "<=")


def random_filters(r: Random, world: World, number: int) -> list[Expression]:
    """So many filters, simple ones and what is made of them."""
    found: list[Expression] = []
    while len(found) < number:
        chance = r.random()
        if chance < 0.25:
            found += client_filter(r, world)
        elif chance < 0.4:
            found += clause(r, world)
        elif chance < 0.45:
            found.append(custom_filter(r, world))
        elif chance < 0.65:
            found.append(leaf(r, world))
        else:
            found.append(tree(r, world, r.randint(1, 4)))
    return found[:number]


def tree(r: Random, world: World, depth: int) -> Expression:
    """And, or, not (of nothing, too), with whatever can stand in them."""
    chance = r.random()
    if not depth or chance < 0.1:
        return leaf(r, world)
    if chance < 0.4:
        return Not(tree(r, world, depth - 1))
    terms = [tree(r, world, depth - 1) for _ in range(r.choice([0, 1, 2, 2, 2, 3]))]
    join: Callable[[list[Expression]], Expression] = r.choice([all_of, any_of, _all, _any])
    return join(terms)


def _all(terms: list[Expression]) -> Expression:
    return AllOf(tuple(terms))


def _any(terms: list[Expression]) -> Expression:
    return AnyOf(tuple(terms))


def leaf(r: Random, world: World) -> Expression:
    chance = r.random()
    if chance < 0.55:
        return atom(r, world)
    if chance < 0.73:
        return comparison(r, world) or atom(r, world)
    if chance < 0.93:
        return text_match(r, world) or atom(r, world)
    terms = client_filter(r, world)
    return terms[0] if terms else custom_filter(r, world)


# Atoms


def atom(r: Random, world: World) -> Expression:
    name = r.choice(list(world.kinds))
    arrays = [name for name, kind in world.kinds.items() if kind.name == "array"]
    if arrays and r.random() < 0.15:
        name = r.choice(arrays)
    kind, many = world.kinds[name], has_many(world.resource, name)
    if kind.is_container and (kind.name == "object" or r.random() < 0.1):
        return Atom(name, r.choice(["is null", "is not null"]))
    if kind.name == "array":
        return _array_atom(r, world, name)
    operators = [*kind.operators, "is null", "is not null"]
    if not holds_text(world.resource, name):
        operators = [operator for operator in operators if operator != "like"]
    operator: Any = r.choice(operators)
    if operator.startswith("is"):
        return Atom(name, operator, None, many)
    if operator == "like":
        return Atom(name, operator, near_text(r, operand(r, world, name)), many)
    if operator == "in":
        values = tuple(operand(r, world, name) for _ in range(r.choice([0, 1, 2, 3, 5])))
        return Atom(name, operator, values, many)
    if operator == "between":
        bounds = [operand(r, world, name), operand(r, world, name)]
        if r.random() < 0.8:
            bounds.sort()
        return Atom(name, operator, tuple(bounds), many)
    return Atom(name, operator, operand(r, world, name), many)


def operand(r: Random, world: World, name: str) -> Any:
    """Something to compare a column with, cast as every filter casts it; often what it holds."""
    kind, pool = world.kinds[name], world.pools[name]
    chance = r.random()
    value = r.choice(pool)
    if chance < 0.35:
        value = kind.near(r, value)
    elif chance < 0.45:
        value = kind.make(r)
    try:
        return cast_column(world.resource, name, value)
    except ValueProblem:
        return cast_column(world.resource, name, r.choice(pool))


def _array_atom(r: Random, world: World, name: str) -> Expression:
    operator: Any = r.choice(["=", "in", "in", "like", "like"])
    if operator == "like":
        texts = [item for item in _elements(world, name) if isinstance(item, str)]
        part = near_text(r, r.choice(texts)) if texts and r.random() < 0.8 else text(r)
        return Atom(name, "like", part, True)
    if operator == "in":
        values = tuple(wanted_element(r, world, name) for _ in range(r.choice([0, 1, 2, 3])))
        return Atom(name, "in", values, True)
    return Atom(name, "=", wanted_element(r, world, name), True)


def _elements(world: World, name: str) -> list[Any]:
    """Those of the arrays; and of arrays inside, which are none of theirs."""
    found = [item for array in world.pools[name] for item in array]
    return found + [item for inner in found if isinstance(inner, list) for item in inner]


def wanted_element(r: Random, world: World, name: str) -> Any:
    """A text, an integer or a boolean, often one that an array has: or that looks like it."""
    found = [
        item
        for item in _elements(world, name)
        if item is not None and not isinstance(item, list | dict)
    ]
    value = r.choice(found) if found else text(r)
    chance = r.random()
    if chance < 0.2:
        value = r.choice([text(r), str(value), 1, 0, True, False, "1", "true", 2**53 - 1])
    elif chance < 0.5 and not isinstance(value, str) and value in (0, 1):
        value = int(value) if isinstance(value, bool) else bool(value)  # equal to Python
    if isinstance(value, float):
        value = int(value) if value.is_integer() and r.random() < 0.8 else str(value)
    kind: Any = "integer" if isinstance(value, int) else "string"
    try:
        return cast_element("boolean" if isinstance(value, bool) else kind, value)
    except ValueProblem:
        return 1


# Texts


def _texts(world: World) -> list[Column]:
    return [column for column in _columns(world) if column.kind == "string"]


def text_match(r: Random, world: World) -> Expression | None:
    columns = _texts(world)
    if not columns:
        return None
    first = r.choice(columns)
    value: Value = first
    if r.random() < 0.25:
        other: Value = Constant(text(r), "string") if r.random() < 0.4 else r.choice(columns)
        value = Coalesce((first, other))
    case: Any = r.choice(["exact", "fold", "lower", "upper"])
    pattern = str(r.choice(world.pools[first.name])) if r.random() < 0.85 else text(r)
    if r.random() < 0.5:
        pattern = near_text(r, pattern)
    seen = {"exact": str, "fold": fold, "lower": lower, "upper": upper}[case]
    if case == "fold" or r.random() < 0.8:
        pattern = seen(pattern)
    return TextMatch(value, _segments(r, pattern), case)


def _segments(r: Random, pattern: str) -> tuple[str, ...]:
    """A pattern cut into pieces, some of its characters open."""
    pieces = ["" if r.random() < 0.5 else letter(r)] if r.random() < 0.05 else [""]
    for character in pattern:
        chance = r.random()
        if chance < 0.15:
            pieces.append("")
        if 0.1 < chance < 0.2:
            continue  # left out, or covered by what may stand between pieces
        pieces[-1] += ANY_CHARACTER if chance > 0.9 else character
    if r.random() < 0.5:
        pieces.insert(0, "")
    if r.random() < 0.5:
        pieces.append("")
    return tuple(pieces)


# Comparisons


def _columns(world: World) -> list[Column]:
    kinds: dict[str, ValueKind] = {"id": "string", "text": "string", "dateTime": "dateTime"}
    same: list[ValueKind] = ["string", "number", "integer", "boolean", "date", "time"]
    kinds |= {kind: kind for kind in same}
    stored = {name: stored_type(world.resource, name) for name in world.resource.column_names}
    return [Column(name, kinds[kind]) for name, kind in stored.items() if kind in kinds]


def comparison(r: Random, world: World) -> Expression | None:
    columns = _columns(world)
    numbers = [column for column in columns if column.kind in ("number", "integer")]
    if numbers and r.random() < 0.75:
        left = numeric(r, world, numbers, r.randint(0, 3))
        right = numeric(r, world, numbers, r.choice([0, 0, 1]))
        if r.random() < 0.4:
            right = Constant(_constant(r, world, kind_of(left)), kind_of(left))
    else:
        column = r.choice(columns)
        left = _first_of(r, world, columns, column)
        right = _first_of(r, world, columns, column)
        if r.random() < 0.4:
            right = Constant(_constant(r, world, column.kind), column.kind)
    if r.random() < 0.12:
        operator: Literal["is null", "is not null"] = r.choice(["is null", "is not null"])
        return Comparison(left, operator)
    equal: tuple[Any, ...] = ("=", "!=")
    return Comparison(left, r.choice(equal if kind_of(left) == "boolean" else COMPARED), right)


def _first_of(r: Random, world: World, columns: list[Column], like: Column) -> Value:
    same = [column for column in columns if column.kind == like.kind]
    if r.random() < 0.6:
        return r.choice(same)
    values: list[Value] = [r.choice(same) for _ in range(r.randint(1, 2))]
    last = Constant(_constant(r, world, like.kind), like.kind)
    return Coalesce((*values, last if r.random() < 0.6 else r.choice(same)))


def numeric(r: Random, world: World, numbers: list[Column], depth: int) -> Value:
    """A number: of a column, or computed."""
    chance = r.random()
    texts = _texts(world)
    if texts and chance < 0.1:
        return Length(_first_of(r, world, texts, texts[0]))
    if not depth or chance < 0.25:
        return _first_of(r, world, numbers, r.choice(numbers))
    left = numeric(r, world, numbers, depth - 1)
    right: Value = numeric(r, world, numbers, depth - 1)
    if r.random() < 0.5:
        right = Constant(_factor(r, world), "number")
    elif r.random() < 0.2:
        left = Constant(_factor(r, world), "number")
    found = Arithmetic(r.choice(["+", "-", "*", "/"]), left, right)
    return found if is_safe(found) else left if not isinstance(left, Constant) else right


def _factor(r: Random, world: World) -> float:
    value = float(r.choice([0, 1, -1, 2, 3, 0.1, 10, 1e-9, 1e60, -1e-60, r.random()]))
    return value if value == 0 or 1 / LIMIT <= abs(value) <= LIMIT else 1.0


def _constant(r: Random, world: World, kind: ValueKind) -> Any:
    named = [column.name for column in _columns(world) if column.kind == kind]
    if kind == "integer" and r.random() < 0.3:
        return r.randint(0, 5)
    if not named:
        return cast(kind, 1)
    name = r.choice(named)
    value = world.pools[name][0] if r.random() < 0.2 else operand(r, world, name)
    return cast(kind, value)


# What comes from outside


def client_filter(r: Random, world: World) -> list[Expression]:
    """A client's filters, if they are accepted; shown back and sent again they mean the same."""
    resource, search = world.resource, world.resource.search
    assert search is not None
    asked = {}
    for name in dict.fromkeys(r.choice(list(search)) for _ in range(r.choice([1, 1, 2, 3]))):
        entry = search[name]
        column = r.choice(entry.columns)

        def value(column: str = column, kind: str = entry.type) -> Any:
            return _from_outside(r, world, column, kind)

        if entry.operator == "in":
            asked[name] = [value() for _ in range(r.choice([0, 1, 2, 3, 5]))]
        elif entry.operator == "between":
            asked[name] = [value(), value()]
        elif entry.operator in ("=", "!=") and r.random() < 0.1:
            asked[name] = None
        else:
            asked[name] = value()
    try:
        built = build_filters(resource, asked, ANONYMOUS)
    except FilterError:
        return []
    form = canonical(built.expression)
    assert canonical(build_filters(resource, built.normalised, ANONYMOUS).expression) == form
    as_json = msgspec.json.decode(msgspec.json.encode(built.normalised))
    assert canonical(build_filters(resource, as_json, ANONYMOUS).expression) == form
    return [built.expression]


def _from_outside(r: Random, world: World, column: str, asked_as: str) -> Any:
    kind = world.kinds[column]
    if kind.name == "array":
        return wanted_element(r, world, column)
    chance = r.random()
    value = r.choice(world.pools[column])
    if chance < 0.4:
        value = kind.near(r, value)
    elif chance < 0.5:
        value = kind.make(r)
    if asked_as == "date" and kind.name == "dateTime" and r.random() < 0.7:
        return str(value.date())
    if kind.name == "boolean":
        return r.choice([value, int(value), kind.written(value)])
    return kind.written(value) if r.random() < 0.3 and not isinstance(value, int) else value


def clause(r: Random, world: World) -> list[Expression]:
    """A clause of trusted code, if it is accepted."""
    try:
        return [build_clause(world.resource, _clause(r, world, r.randint(0, 3)))]
    except ConfigurationError:
        return []


def _clause(r: Random, world: World, depth: int) -> dict[str, Any]:
    if depth and r.random() < 0.7:
        match r.randint(0, 3):
            case 0:
                return {"$or": [_clause(r, world, depth - 1) for _ in range(r.randint(1, 3))]}
            case 1:
                return {"$and": [_clause(r, world, depth - 1) for _ in range(r.randint(1, 3))]}
            case 2:
                return {"$not": _clause(r, world, depth - 1)}
            case _:
                return _clause(r, world, depth - 1) | _clause(r, world, depth - 1)
    name = r.choice(list(world.kinds))
    kind = world.kinds[name]
    if kind.name == "object" or r.random() < 0.1:
        return {name: {"is null": r.random() < 0.5}}
    operator = r.choice(["=", "in", "like"] if kind.name == "array" else kind.operators)

    def value() -> Any:
        return _from_outside(r, world, name, "")

    if operator == "in":
        return {name: {"in": [value() for _ in range(r.choice([0, 1, 2, 4]))]}}
    if operator == "between":
        return {name: {"between": [value(), value()]}}
    return {name: {operator: value()} if r.random() < 0.7 else value()}


def custom_filter(r: Random, world: World) -> Expression:
    """As an application writes one that is not read, with values in a list and alone."""
    names = [name for name in world.resource.column_names if not world.kinds[name].is_container]
    name = r.choice(names)
    values = [r.choice(world.pools[name]) for _ in range(r.randint(2, 4))]
    return Opaque(
        "custom",
        f"{name}{values}",
        lambda columns: or_(columns[name].in_(values[1:]), columns[name] == values[0]),
        lambda record: record[name] in values,
    )


def shuffled(r: Random, expression: Expression) -> Expression:
    """The same filter, its terms and the values of its lists in another order, some twice."""
    match expression:
        case AllOf(terms) | AnyOf(terms):
            found = [shuffled(r, term) for term in terms]
            r.shuffle(found)
            return type(expression)(tuple(found + found[:1] if len(found) > 1 else found))
        case Not(term):
            return Not(shuffled(r, term))
        case Atom(column, "in", value, some):
            values = list(value)
            r.shuffle(values)
            return Atom(column, "in", tuple(values + values[:1]), some)
    return expression
