"""``Api(logging={"level": "debug"})``: printing what happens below the logger ``tidings``."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from tidings.errors import ConfigurationError

_LEVELS = ("debug", "info", "warning", "error", "critical")


def set_log_level(options: Mapping[str, str] | None) -> None:
    """Print what happens from the given level on; nothing is changed without options.

    Raises:
        ConfigurationError: unknown option or level.
    """
    if options is None:
        return
    level = str(options.get("level", "warning")).lower()
    if level not in _LEVELS or set(options) - {"level"}:
        raise ConfigurationError(
            f"logging takes {{'level': ...}} with one of {', '.join(_LEVELS)}, not {dict(options)}"
        )
    logger = logging.getLogger("tidings")
    logger.setLevel(level.upper())
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
