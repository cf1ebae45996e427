"""What an Api needs, looked at from outside and inside: is it there, and does it answer?"""

from tidings.diagnosis.finding import Finding
from tidings.diagnosis.round import diagnose

__all__ = ["Finding", "diagnose"]
