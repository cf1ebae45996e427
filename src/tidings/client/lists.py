"""LiveList: a list that is the server's answer, whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from tidings.client.changes import Change, is_covered
from tidings.client.connection import FIRST_PAUSE, LONGEST_PAUSE, Connection, Subscription, paused
from tidings.client.errors import ClientError
from tidings.client.requests import Requests, ids_parameter, list_parameters

_log = logging.getLogger("tidings.client")
_AT_ONCE: Final = 100
"""So many records are asked for by one request: URLs have an end."""
Record = dict[str, Any]


class LiveList:
    """The records of a list, as the server's documents show them; made by `Client.live`.

    One task keeps it, so that there is one request at a time and no answer overtakes another. What
    is told while a request runs is looked at after it: an answer that was on its way when a record
    left is corrected by the next one.
    """

    def __init__(
        self,
        connection: Connection,
        requests: Requests,
        subscription: Subscription,
        *,
        include: Sequence[str] = (),
        fields: Mapping[str, Sequence[str]] | None = None,
        sort: Sequence[str] = (),
    ) -> None:
        self._connection = connection
        self._requests = requests
        self._subscription = subscription
        self._sort = [name.removeprefix("-") for name in sort]
        self._parameters = list_parameters(subscription.filters, include, fields or {}, sort)
        self._changed = asyncio.Event()
        self._is_fetching = True
        self._loaded_at: str | None = None
        """The place before which all of the list was read."""
        self._read_at: dict[str, str] = {}
        """The same for records that were read later."""
        self.records: dict[str, Record] = {}
        """Resource objects by id, in the order of the server's list."""
        self.included: dict[tuple[str, str], Record] = {}
        """What ``include`` has brought along, by type and id."""
        self.version = 0
        """How often the list has been brought up to date."""
        self.error: ClientError | None = None
        """Why the list is kept no longer: the server has ended the subscription, or refuses to
        answer.
        """

    @property
    def data(self) -> list[Record]:
        """The records as a list, in the order of the server's."""
        return list(self.records.values())

    @property
    def is_current(self) -> bool:
        """Whether the connection stands, and everything that was told has been fetched."""
        is_idle = not self._is_fetching and not len(self._subscription.changes)
        return self._connection.is_live and is_idle

    async def changed(self) -> AsyncIterator[LiveList]:
        """The list itself, each time that it was brought up to date; at first as it is.

        Raises:
            ClientError: the list is kept no longer; ``error`` says why.
        """
        seen = self.version
        yield self
        while True:
            await self._newer_than(seen)
            seen = self.version
            yield self

    async def loaded(self) -> None:
        """Wait until it was loaded for the first time.

        Raises:
            ClientError: the server refuses it.
        """
        await self._newer_than(0)

    async def _newer_than(self, version: int) -> None:
        while self.version <= version:
            if self.error is not None:
                raise self.error
            self._changed.clear()
            await self._changed.wait()

    async def keep(self) -> None:
        """Keep it up to date; `Client.live` runs this.

        Raises:
            ClientError: the server has ended the subscription, or refuses to answer.
        """
        try:
            while True:
                self._is_fetching = False
                changes = await self._subscription.changes.take()
                self._is_fetching = True
                await self._look(changes)
                self._tell()
        except ClientError as error:
            self.error = error
            self._tell(is_new=False)
            raise

    async def _look(self, changes: Sequence[Change]) -> None:
        """Fetch what changes are about, again until the server answers."""
        is_stale = any(one.kind == "resync" for one in changes)
        last = {one.id: one.kind for one in changes if self._is_news(one)}
        ids = [key for key, kind in last.items() if kind != "leave"]
        for key in last.keys() - set(ids):  # if it comes back, that is told
            self.records.pop(key, None)
            self._read_at.pop(key, None)
        pause = FIRST_PAUSE
        while True:
            try:
                if is_stale or (ids and not await self._refetch(ids)):
                    is_stale = True  # also where the next request fails
                    await self._load()
                return
            except ClientError as error:
                if not self._requests.passes(error):
                    raise
                _log.warning("%s could not be fetched yet: %s", self._subscription.resource, error)
            except self._requests.failures as error:
                _log.debug("%s could not be fetched yet: %r", self._subscription.resource, error)
            await asyncio.sleep(paused(pause))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _is_news(self, change: Change) -> bool:
        """Whether what is held may be older than a change."""
        if change.kind == "resync":
            return False
        return not is_covered(change.cursor, self._read_at.get(change.id, self._loaded_at))

    async def _load(self) -> None:
        """Fetch all of it. What changes meanwhile has been told, and is looked at next."""
        pages = await self._requests.pages(self._subscription.resource, self._parameters)
        self.records = {one["id"]: one for page in pages for one in page["data"]}
        self.included = _included(pages)
        self._loaded_at = _place(pages)
        self._read_at.clear()

    async def _refetch(self, ids: Sequence[str]) -> bool:
        """Fetch these records with the list's own filters: one that is absent is not of the list.

        False where the list is to be loaded instead, since only the server knows their places.
        """
        if "id" in self._subscription.filters:  # the parameter can be given once only
            return False
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            pages = await self._requests.pages(
                self._subscription.resource, [*self._parameters, ids_parameter(some)]
            )
            found = {one["id"]: one for page in pages for one in page["data"]}
            if self._sort and any(self._moves(one) for one in found.values()):
                return False
            self._put(some, found, _place(pages))
            self.included.update(_included(pages))
        return True

    def _moves(self, record: Record) -> bool:
        """Whether a record may be at another place than before."""
        before = self.records.get(record["id"])
        return before is None or any(
            name != "id" and _value(before, name) != _value(record, name) for name in self._sort
        )

    def _put(self, ids: Sequence[str], found: Mapping[str, Record], place: str | None) -> None:
        is_longer = False
        for key in ids:
            self._read_at.pop(key, None)
            if key not in found:
                self.records.pop(key, None)
                continue
            is_longer |= key not in self.records
            self.records[key] = found[key]
            if place is not None:
                self._read_at[key] = place
        if is_longer:
            self.records = _in_order(self.records)

    def _tell(self, *, is_new: bool = True) -> None:
        self.version += is_new
        self._changed.set()


def _value(record: Record, name: str) -> Any:
    """What a list is sorted by; something equal to nothing where the document does not show it."""
    attributes = record.get("attributes", {})
    return attributes[name] if name in attributes else object()


def _in_order(records: Mapping[str, Record]) -> dict[str, Record]:
    """The server's order of ids: numbers as such, and texts by their code points."""
    are_numbers = all(key.removeprefix("-").isdecimal() for key in records)
    keys: list[str] = sorted(records, key=int) if are_numbers else sorted(records)
    return {key: records[key] for key in keys}


def _included(pages: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Record]:
    return {(one["type"], one["id"]): one for page in pages for one in page.get("included", ())}


def _place(pages: Sequence[Mapping[str, Any]]) -> str | None:
    """The place before which the first page was read, and with that all of them."""
    found: str | None = pages[0].get("meta", {}).get("cursor")
    return found
