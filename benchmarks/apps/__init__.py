"""The apps under measurement, each served by a process of its own."""
