"""What an Api needs, looked at from outside and inside: is it there, and does it answer?"""

from __future__ import annotations

from collections.abc import AsyncIterator

from tidings.api import Api
from tidings.diagnosis.finding import Finding

__all__ = ["Finding", "diagnose"]


async def diagnose(
    api: Api,
    *,
    url: str | None = None,
    token: str | None = None,
    is_made: bool = False,
    origin: str | None = None,
    seconds: float = 5.0,
) -> AsyncIterator[Finding]:
    """Check what an Api needs: database, feed, keys, settings, and a client's way to it.

    ``url`` is where it runs; without, it is opened and served for the moment. ``token`` is what
    the client shows; ``is_made`` tells that it was made for this, so that a refusal may be its own
    fault. ``origin`` is that of the pages which connect. Each check has ``seconds``. Nothing is
    written that stays.

        async for finding in diagnose(api):
            print(finding.status, finding.check, finding.message)

    Raises:
        ConfigurationError: the api is open, or the URL is none.
    """
    # A server and a client come with it, which nobody else needs who imports the package.
    from tidings.diagnosis.round import check_all

    async for finding in check_all(
        api, url=url, token=token, is_made=is_made, origin=origin, seconds=seconds
    ):
        yield finding
