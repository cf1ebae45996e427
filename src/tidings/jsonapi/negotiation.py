"""Content negotiation (JSON:API 1.1, chapter 5)."""

from __future__ import annotations

import re
from typing import Final

from tidings.errors import NotAcceptable, Source, UnsupportedMediaType

MEDIA_TYPE: Final = "application/vnd.api+json"
ATOMIC: Final = "https://jsonapi.org/ext/atomic"
ATOMIC_TYPE: Final = f'{MEDIA_TYPE}; ext="{ATOMIC}"'
_PARAMETERS_ALLOWED = frozenset({"profile"})
_ALSO_ACCEPTED = frozenset({"*/*", "application/*", "application/json"})
# What stands in quotes may hold a comma or a semicolon (RFC 9110, 5.6.6).
_QUOTED = r'"(?:\\.?|[^"\\])*+"?'
_ELEMENT = re.compile(rf'(?:[^,"]|{_QUOTED})++')
_PARAMETER = re.compile(rf'(?:[^;"]|{_QUOTED})++')


def check_content_type(header: str | None, *, atomic: bool = False) -> None:
    """Accept a request body's media type; with ``atomic`` it must have that extension.

    Raises:
        UnsupportedMediaType: it is not JSON:API's, or has other parameters than ``profile`` and
            the extension that is needed.
    """
    media_type, parameters = _parse(header or "")
    if media_type != MEDIA_TYPE:
        raise UnsupportedMediaType(
            f"Send the body as Content-Type: {MEDIA_TYPE}", source=Source(header="Content-Type")
        )
    if atomic and parameters.pop("ext", "").strip('"').split() != [ATOMIC]:
        raise UnsupportedMediaType(
            f"Send operations as Content-Type: {ATOMIC_TYPE}", source=Source(header="Content-Type")
        )
    if parameters.keys() - _PARAMETERS_ALLOWED:
        raise UnsupportedMediaType(
            f"{MEDIA_TYPE} takes no parameter but 'profile' here",
            source=Source(header="Content-Type"),
        )


def check_accept(header: str | None, *, atomic: bool = False) -> None:
    """Check that the client takes JSON:API; with ``atomic``, also with that extension.

    Raises:
        NotAcceptable: it takes only other types, or names JSON:API's only with parameters that
            cannot be met or with a weight of 0.
    """
    if not header:
        return
    accepted = [_parse(part) for part in _ELEMENT.findall(header)]
    named = [parameters for media_type, parameters in accepted if media_type == MEDIA_TYPE]
    # What names the type counts, whatever a wildcard beside it says (RFC 9110, 12.5.1).
    if named:
        for one in named:
            if atomic and one.get("ext", "").strip('"').split() == [ATOMIC]:
                one.pop("ext")
        plain = [one for one in named if not one.keys() - _PARAMETERS_ALLOWED - {"q"}]
        is_met = any(_weighs(one) for one in plain)
    else:
        is_met = any(_weighs(one) for kind, one in accepted if kind in _ALSO_ACCEPTED)
    if not is_met:
        raise NotAcceptable(
            f"Responses are {MEDIA_TYPE}, without parameters; accept that",
            source=Source(header="Accept"),
        )


def _weighs(parameters: dict[str, str]) -> bool:
    return parameters.get("q", "1").strip('0. "') != ""


def _parse(header: str) -> tuple[str, dict[str, str]]:
    media_type, *parameters = _PARAMETER.findall(header) or [""]
    pairs = (parameter.partition("=") for parameter in parameters)
    named = {name.strip().lower(): value.strip() for name, _, value in pairs if name.strip()}
    return media_type.strip().lower(), named
