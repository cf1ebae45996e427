"""The operations on resources and who may do them; one implementation for HTTP and Python."""

from tidings.resources.context import Method, OperationContext, operation_context
from tidings.resources.drafts import Draft, MakeDraft, Members, Mode, Require
from tidings.resources.fieldsets import Fieldsets, is_visible, parse_fieldsets
from tidings.resources.handles import ResourceHandle, ResourceHandles
from tidings.resources.includes import Included, IncludeTree, parse_include
from tidings.resources.operations import Operations
from tidings.resources.permissions import (
    Answer,
    QueryPermissions,
    check_permission,
    is_guarded,
)
from tidings.resources.policies import Policies
from tidings.resources.refusals import not_found
from tidings.resources.results import Found, Page, Selection
from tidings.resources.scopes import TransactionLike
from tidings.resources.visibility import View, Visibility, looked_into

__all__ = [
    "Answer",
    "Draft",
    "Fieldsets",
    "Found",
    "IncludeTree",
    "Included",
    "MakeDraft",
    "Members",
    "Method",
    "Mode",
    "OperationContext",
    "Operations",
    "Page",
    "Policies",
    "QueryPermissions",
    "Require",
    "ResourceHandle",
    "ResourceHandles",
    "Selection",
    "TransactionLike",
    "View",
    "Visibility",
    "check_permission",
    "is_guarded",
    "is_visible",
    "looked_into",
    "not_found",
    "operation_context",
    "parse_fieldsets",
    "parse_include",
]
