"""matching: which of the watched filters does a change concern? In process, no I/O."""
