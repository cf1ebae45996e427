"""Models: an application's own ORM classes and tables, as what resources are declared with."""

from tidings.storage.models.reader import Model, is_model, read_model
from tidings.storage.models.targets import targets_of

__all__ = ["Model", "is_model", "read_model", "targets_of"]
