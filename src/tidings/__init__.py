"""tidings: resources as JSON:API over SQL, and word over Socket.IO that something has changed.

from tidings import Api, RestApiPlugin, SqlAlchemyPlugin

api = Api(name="blog")
api.use(RestApiPlugin())
api.use(SqlAlchemyPlugin("sqlite+aiosqlite:///blog.db", create_tables=True))
api.add_resource("posts", schema={"title": {"type": "string", "required": True}})
app = api.asgi()
"""

from tidings._version import __version__
from tidings.api import Api, Plugin
from tidings.auth import MemoryRevocations, Revocation, RevocationStore
from tidings.diagnosis import Finding, diagnose
from tidings.errors import (
    AuthenticationError,
    ConfigurationError,
    Conflict,
    DatabaseBusy,
    FilterError,
    IdentityUnavailable,
    InvalidRequest,
    KeysUnavailable,
    MethodNotAllowed,
    MissingDependencyError,
    MissingExtraError,
    NotAcceptable,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    PreconditionFailed,
    Problem,
    QueryTimeout,
    RateLimited,
    RelatedNotFound,
    RequestError,
    TidingsError,
    Unavailable,
    UnsupportedMediaType,
    ValidationFailed,
)
from tidings.identity import ANONYMOUS, TRUSTED, Identity
from tidings.inspector import InspectorPlugin
from tidings.monitoring import OperationsPlugin
from tidings.plugins import (
    CorsPlugin,
    JWTAuthPlugin,
    MemoryFeedPlugin,
    PostgresFeedPlugin,
    RedisFeedPlugin,
    RestApiPlugin,
    SocketIOPlugin,
    SqlAlchemyPlugin,
)
from tidings.realtime import Drainable, Explanation, SocketLimits, SubscriptionContext
from tidings.resources import OperationContext
from tidings.schema import FilterLimits, belongs_to, field, has_many, has_one
from tidings.storage import UnitOfWork
from tidings.tenancy import TenancyPlugin

__all__ = [
    "ANONYMOUS",
    "TRUSTED",
    "Api",
    "AuthenticationError",
    "ConfigurationError",
    "Conflict",
    "CorsPlugin",
    "DatabaseBusy",
    "Drainable",
    "Explanation",
    "FilterError",
    "FilterLimits",
    "Finding",
    "Identity",
    "IdentityUnavailable",
    "InspectorPlugin",
    "InvalidRequest",
    "JWTAuthPlugin",
    "KeysUnavailable",
    "MemoryFeedPlugin",
    "MemoryRevocations",
    "MethodNotAllowed",
    "MissingDependencyError",
    "MissingExtraError",
    "NotAcceptable",
    "NotFound",
    "OperationContext",
    "OperationsPlugin",
    "PayloadTooLarge",
    "PermissionDenied",
    "Plugin",
    "PostgresFeedPlugin",
    "PreconditionFailed",
    "Problem",
    "QueryTimeout",
    "RateLimited",
    "RedisFeedPlugin",
    "RelatedNotFound",
    "RequestError",
    "RestApiPlugin",
    "Revocation",
    "RevocationStore",
    "SocketIOPlugin",
    "SocketLimits",
    "SqlAlchemyPlugin",
    "SubscriptionContext",
    "TenancyPlugin",
    "TidingsError",
    "Unavailable",
    "UnitOfWork",
    "UnsupportedMediaType",
    "ValidationFailed",
    "__version__",
    "belongs_to",
    "diagnose",
    "field",
    "has_many",
    "has_one",
]
