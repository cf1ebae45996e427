"""No frame holds a value of a record, whatever a test does."""

from tests.security.tap import no_values_in_frames

__all__ = ["no_values_in_frames"]
