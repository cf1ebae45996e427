"""One filter expression tree, and its readers: SQL, Python predicate, canonical form."""

from tidings.filters.build import ClientFilters, build_filters
from tidings.filters.canonical import canonical
from tidings.filters.expression import (
    EVERYTHING,
    NOTHING,
    AllOf,
    AnyOf,
    Atom,
    Expression,
    Not,
    Opaque,
    all_of,
    any_of,
    opaque_without_record_test,
)
from tidings.filters.predicate import comparison, compile_predicate
from tidings.filters.trusted import build_clause

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "AllOf",
    "AnyOf",
    "Atom",
    "ClientFilters",
    "Expression",
    "Not",
    "Opaque",
    "all_of",
    "any_of",
    "build_clause",
    "build_filters",
    "canonical",
    "comparison",
    "compile_predicate",
    "opaque_without_record_test",
]
