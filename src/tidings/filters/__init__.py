"""One filter expression tree, and its readers: SQL, Python predicate, canonical form."""

from tidings.filters.build import ClientFilters, build_filters
from tidings.filters.canonical import canonical
from tidings.filters.expression import (
    EVERYTHING,
    NOTHING,
    AllOf,
    AnyOf,
    Atom,
    Comparison,
    Expression,
    Linked,
    Not,
    Opaque,
    TextMatch,
    all_of,
    any_of,
    columns_used,
    is_too_large,
    leaves,
    opaque_without_record_test,
)
from tidings.filters.predicate import comparison, compile_predicate
from tidings.filters.text import element_key, element_keys, fold
from tidings.filters.trusted import Both, Either, Mistyped, build_clause, read_clause
from tidings.filters.truth import Misread
from tidings.filters.words import in_words, value_in_words

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "AllOf",
    "AnyOf",
    "Atom",
    "Both",
    "ClientFilters",
    "Comparison",
    "Either",
    "Expression",
    "Linked",
    "Misread",
    "Mistyped",
    "Not",
    "Opaque",
    "TextMatch",
    "all_of",
    "any_of",
    "build_clause",
    "build_filters",
    "canonical",
    "columns_used",
    "comparison",
    "compile_predicate",
    "element_key",
    "element_keys",
    "fold",
    "in_words",
    "is_too_large",
    "leaves",
    "opaque_without_record_test",
    "read_clause",
    "value_in_words",
]
