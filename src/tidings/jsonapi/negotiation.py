"""Content negotiation (JSON:API 1.1, chapter 5)."""

from __future__ import annotations

from typing import Final

from tidings.errors import NotAcceptable, Source, UnsupportedMediaType

MEDIA_TYPE: Final = "application/vnd.api+json"
_PARAMETERS_ALLOWED = frozenset({"profile"})
_ALSO_ACCEPTED = frozenset({"*/*", "application/*", "application/json", MEDIA_TYPE})


def check_content_type(header: str | None) -> None:
    """Accept a request body's media type.

    Raises:
        UnsupportedMediaType: it is not JSON:API's, or has parameters other than ``profile``
            (no extension is supported).
    """
    media_type, parameters = _parse(header or "")
    if media_type != MEDIA_TYPE:
        raise UnsupportedMediaType(
            f"Send the body as Content-Type: {MEDIA_TYPE}", source=Source(header="Content-Type")
        )
    if parameters - _PARAMETERS_ALLOWED:
        raise UnsupportedMediaType(
            f"{MEDIA_TYPE} takes no parameter but 'profile' here",
            source=Source(header="Content-Type"),
        )


def check_accept(header: str | None) -> None:
    """Check that the client takes JSON:API.

    Raises:
        NotAcceptable: it takes only other types, or JSON:API's only with parameters.
    """
    if not header:
        return
    for part in header.split(","):
        media_type, parameters = _parse(part)
        if media_type not in _ALSO_ACCEPTED:
            continue
        if media_type != MEDIA_TYPE or not parameters - _PARAMETERS_ALLOWED - {"q"}:
            return
    raise NotAcceptable(
        f"Responses are {MEDIA_TYPE}, without parameters; accept that",
        source=Source(header="Accept"),
    )


def _parse(header: str) -> tuple[str, frozenset[str]]:
    media_type, *parameters = header.split(";")
    names = (parameter.partition("=")[0].strip().lower() for parameter in parameters)
    return media_type.strip().lower(), frozenset(name for name in names if name)
